"""The private record types and EDNS(0) options of the system, known to dnspython once this package is imported.

They read and print by mnemonic (``HSYNC3``); for servers and files that do not know them use the generic form of
RFC 3597, ``rdata.to_generic()``.  Nothing in them is compressed or lower-cased (RFC 3597, sections 4 and 7).
"""

from mpcore.records._common import register
from mpcore.records.chunk import CHUNK, CHUNK_TYPE, FORMAT_JSON, FORMAT_JWT
from mpcore.records.dsync import DSYNC_TYPE, DsyncScheme, dsync_from_text, dsync_to_text, make_dsync
from mpcore.records.hsync3 import HSYNC3, HSYNC3_TYPE
from mpcore.records.hsyncparam import HSYNCPARAM, HSYNCPARAM_TYPE
from mpcore.records.jwk import JWK, JWK_TYPE
from mpcore.records.options import (
    CHUNK_ENDPOINT_OPTION,
    CHUNK_OPTION,
    ChunkEndpointOption,
    ChunkOption,
    register_options,
)

__all__ = (
    "CHUNK",
    "CHUNK_ENDPOINT_OPTION",
    "CHUNK_OPTION",
    "CHUNK_TYPE",
    "DSYNC_TYPE",
    "FORMAT_JSON",
    "FORMAT_JWT",
    "HSYNC3",
    "HSYNC3_TYPE",
    "HSYNCPARAM",
    "HSYNCPARAM_TYPE",
    "JWK",
    "JWK_TYPE",
    "ChunkEndpointOption",
    "ChunkOption",
    "DsyncScheme",
    "dsync_from_text",
    "dsync_to_text",
    "make_dsync",
)

register(HSYNC3, HSYNC3_TYPE, "HSYNC3")
register(HSYNCPARAM, HSYNCPARAM_TYPE, "HSYNCPARAM")
register(CHUNK, CHUNK_TYPE, "CHUNK")
register(JWK, JWK_TYPE, "JWK")
register_options()
