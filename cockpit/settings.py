"""Settings of the screens: a file of the user, overridden by the environment.

The file is ``cockpit.yaml`` in the user's configuration directory for ``mpdnssec`` (``~/.config/mpdnssec`` on Linux);
an environment variable is the name of a setting in capitals after ``MPCOCKPIT_``.  Loading this module is slow:
only the
screens do.
"""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_config_dir
from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from mpcore.errors import ConfigError

__all__ = ("ScreenSettings", "load_settings", "settings_file")


def settings_file() -> Path:
    """Where the user's settings are."""
    return Path(user_config_dir("mpdnssec")) / "cockpit.yaml"


class ScreenSettings(BaseSettings):
    """Settings of the screens."""

    model_config = SettingsConfigDict(env_prefix="MPCOCKPIT_", extra="ignore", frozen=True)

    theme: str = "textual-dark"
    """Name of a colour theme; the command palette lists them."""

    read_only: bool = False
    """Refuse everything that would change something."""

    mouse: bool = True
    """Whether the mouse is used; without it the terminal selects text as usual."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=settings_file())


def load_settings() -> ScreenSettings:
    """Read the settings; :raises ConfigError: one of them cannot be used."""
    try:
        return ScreenSettings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(first["msg"], file=str(settings_file()), key=key) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {error}", file=str(settings_file())) from None
