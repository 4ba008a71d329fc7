"""Settings: environment variables that begin with HUB_, or a `.env` file. Each is documented in docs/settings.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from hub.errors import ConfigError
from hub.misfits import unprefixed


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Settings(BaseSettings):
    """All settings of one process. Secrets are masked wherever they are shown."""

    model_config = SettingsConfigDict(env_prefix="HUB_", env_file=".env", extra="ignore")

    data_dir: Path = Field(Path("hub-data"), description="Where the embedded hub keeps its database and key file.")
    database_url: str | None = Field(
        None, description="postgresql://… or sqlite:///FILE. Default: hub.db in the data directory."
    )
    redis_url: str | None = Field(
        None, description="redis://… rings workers at once; without it they look once a second."
    )
    keys: Annotated[list[SecretStr], NoDecode, BeforeValidator(_split)] = Field(
        default_factory=list,
        description="Encryption keys, comma-separated, each 32 bytes in base64; the first one writes, all can read.",
    )
    public_url: str | None = Field(
        None, description="The address vendors reach this hub at, such as https://hub.example.com. Never guessed."
    )
    development: bool = Field(False, description="Allows moving the clock and skips nothing else. Never in production.")
    sandbox_url: str | None = Field(None, description="Where connections in sandbox mode are led.")
    private_hosts: Annotated[list[str], NoDecode, BeforeValidator(_split)] = Field(
        default_factory=list,
        description="Host names and networks (10.1.0.0/16) that calls may reach although they are not public, "
        "comma-separated.",
    )
    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(8000, description="The port to listen on.")
    proxies: Annotated[list[str], NoDecode, BeforeValidator(_split)] = Field(
        default_factory=list,
        description="Addresses of the proxies in front, comma-separated: they are believed about who calls, and about "
        "nothing else.",
    )
    webhooks_per_s: int = Field(
        5_000,
        ge=0,
        description="How many calls one webhook address takes per second in each process, 0 for any number; more are "
        "answered 429.",
    )
    zone: str = Field("UTC", description="The time zone of contacts whose own is not known (IANA name).")
    lease_s: float = Field(
        30,
        description="How long a worker may hold a run without a sign of life, in seconds; no call takes longer than fits.",
    )
    drain_s: float = Field(25, description="How long a stopping process lets work in hand finish, in seconds.")
    slots: int = Field(
        150,
        description="How many runs a worker has in hand at once; of one connection it makes a quarter as many calls at once, at most.",
    )
    spool_dir: Path | None = Field(
        None,
        description="Where deliveries wait while the database is away. Default: spool in the data directory for `hub up`, "
        "none for `hub api`.",
    )
    spool_mb: int = Field(512, ge=0, description="How much may wait there, in megabytes; 0 for no spool.")
    hook_limit_s: float = Field(2, description="How long plugins' hooks may take, in seconds.")
    loop_depth: int = Field(5, ge=0, description="How many runs in a row may be started by each other's effects.")
    loop_entries: int = Field(
        20,
        ge=1,
        description="How often a person may enter the same recipe within HUB_LOOP_WINDOW_S before it is called a loop.",
    )
    loop_window_s: int = Field(600, ge=1, description="The time over which such entries are counted, in seconds.")
    keep_events_days: int = Field(30, ge=1, description="How long deliveries with their bodies and events are kept.")
    keep_runs_days: int = Field(
        90, ge=1, description="How long ended runs are kept with their steps, effects and verdicts."
    )
    keep_messages_days: int = Field(
        400, ge=1, description="How long it is remembered who got a message when, for limits on how many."
    )
    keep_refusals_days: int = Field(30, ge=1, description="How long counts of refused calls are kept.")
    keep_dedupe_days: int = Field(
        45, ge=1, description="How long a repeated delivery or fact is recognised; at least as long as events are kept."
    )
    seam: str | None = Field(
        None, description="Kills, freezes or fails the process at a named place, for tests; only in development mode."
    )
    metrics_open: bool = Field(False, description="Lets anybody read `/metrics`; otherwise it takes an API key.")
    metrics_port: int | None = Field(
        None,
        description="The port at which `hub worker` answers `/metrics`, `/health/live` and `/health/ready`. Default: none.",
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
    log_json: bool = Field(True, description="Logs as JSON lines; false for reading in a terminal.")

    @model_validator(mode="after")
    def _ids_outlive_events(self) -> Settings:
        if self.keep_dedupe_days < self.keep_events_days:
            raise ValueError(
                f"HUB_KEEP_DEDUPE_DAYS is {self.keep_dedupe_days} and HUB_KEEP_EVENTS_DAYS {self.keep_events_days}: a "
                "repeated delivery must be recognised for at least as long as its event is kept"
            )
        return self

    def store_url(self) -> str:
        """The database's URL, the default filled in."""
        return self.database_url or f"sqlite:///{self.data_dir / 'hub.db'}"

    def spool_folder(self) -> Path | None:
        """Where deliveries wait while the database is away, the default filled in; None for nowhere."""
        folder = self.spool_dir or (self.data_dir / "spool" if self.embedded else None)
        return folder if self.spool_mb else None

    @property
    def address(self) -> str:
        """The configured address, else the one this process listens on: never what a caller says in a header."""
        return self.public_url or f"http://{self.host}:{self.port}"

    @property
    def embedded(self) -> bool:
        """Whether the database is a SQLite file, which one process owns."""
        return self.store_url().startswith("sqlite")


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment, `overrides` first. Raises ConfigError naming the variable that is wrong."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # checked by pydantic, that is the point
    except ValidationError as error:
        lines = [_line(e["loc"], e["msg"]) for e in error.errors(include_input=False)]
        raise ConfigError(
            "a setting is wrong; correct what stands below, `hub settings` explains each:\n" + "\n".join(lines)
        ) from None


def _line(place: tuple[int | str, ...], message: str) -> str:
    """What is wrong with one variable, or with several together, which the message names then."""
    return f"HUB_{'_'.join(map(str, place)).upper()}: {unprefixed(message)}" if place else unprefixed(message)
