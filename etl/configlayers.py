"""Merges the settings of config.yaml, of environment variables and of flags, as pydantic-settings does it."""

import os
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, PydanticBaseSettingsSource

from etl.config import ENV_PREFIX, Settings
from etl.errors import ConfigError


class _Environment(EnvSettingsSource):
    """The environment variables that begin with NIMBLE_ETL_."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Return the list or mapping that a variable holds as JSON."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            # The value may be secret, so the message only names the variables.
            names = [name for name, text in os.environ.items() if text == value and name.upper().startswith(ENV_PREFIX)]
            expected = 'expected a list or mapping such as ["one", "two"]'
            raise ConfigError(f"environment {', '.join(sorted(names))}: is not JSON; {expected}") from None


class Layers(  # type: ignore[misc]  # pydantic merges the `model_config` of both bases
    BaseSettings, Settings, env_prefix=ENV_PREFIX, env_nested_delimiter="__", nested_model_default_partial_update=True
):
    """Settings merged from three layers: the argument `flags`, the environment, and the argument `file`."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Any, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the layers, the strongest first."""
        flags, file = (InitSettingsSource(settings_cls, init_settings.init_kwargs[name]) for name in ("flags", "file"))
        return flags, _Environment(settings_cls), file
