"""Asking DNS servers, and showing what they say: what stands behind the cockpit's ``query`` command.

====================================  =================================================================================
:mod:`~mpcore.query.words`            understands a line of questions
:mod:`~mpcore.query.asking`           asks one server: UDP, TCP, TLS, TSIG, SIG(0)
:mod:`~mpcore.query.result`           an answer, as text and as JSON
:mod:`~mpcore.query.explain`          what records and options mean, in words
:mod:`~mpcore.query.layout`           lines made of pieces that a terminal may colour
:mod:`~mpcore.query.transfer`         zones and their changes, streamed and checked for completeness
:mod:`~mpcore.query.update`           dynamic updates from statements like those of nsupdate
:mod:`~mpcore.query.keyfiles`         TSIG and SIG(0) keys from their files
:mod:`~mpcore.query.chain`            looks for an answer from the root down, or with a chain of trust
:mod:`~mpcore.query.walk`             the servers on the way
:mod:`~mpcore.query.links`            the links of the chain
====================================  =================================================================================

Importing this package, :mod:`~mpcore.query.words` and :mod:`~mpcore.query.layout` is cheap; the other modules load the
DNS library.
"""
