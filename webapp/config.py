"""Every setting: typed, read from the environment, documented beside its default."""

import os
import secrets
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

WEAK_KEYS = frozenset({"secret", "changeme", "change-me", "dev", "development", "password", "hohmann", "test"})
MINIMUM_KEY_LENGTH = 24


class ConfigError(ValueError):
    """A setting that cannot be used; `name` is the environment variable."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


class Registration(StrEnum):
    """Who may make an account after the owner exists."""

    OPEN = "open"
    INVITE = "invite"
    CLOSED = "closed"


class Opening(StrEnum):
    """What callers without credentials may do where a setting lets them in."""

    READ = "read"
    WRITE = "write"


class LogFormat(StrEnum):
    """How the processes write their logs."""

    TEXT = "text"
    JSON = "json"


class Role(StrEnum):
    """What a member of a project may do; each includes the ones before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    DEVELOPER = "developer"
    ADMIN = "admin"


class Executor(StrEnum):
    """Who executes a run: the instance's own workers, or Apache Airflow's."""

    LOCAL = "local"
    AIRFLOW = "airflow"


def setting(default: Any, doc: str, *, unit: str = "") -> Any:
    """A field of Settings with its documentation."""
    if callable(default):
        return field(default_factory=default, metadata={"doc": doc, "unit": unit})
    return field(default=default, metadata={"doc": doc, "unit": unit})


def _default_home() -> Path:
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "hohmann"


def _no_paths() -> tuple[Path, ...]:
    return ()


def _no_names() -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Settings:
    """All settings of one instance. Each is an environment variable: the name in capitals."""

    # Where it runs
    port: int = setting(8000, "Port of the web server.")
    bind: str = setting(
        "127.0.0.1", "Address that the web server listens on. Anything but loopback needs an owner first."
    )
    hohmann_home: Path = setting(
        _default_home,
        "Folder with all state of an embedded instance: database, keys, logs, data. Default: hohmann in XDG_DATA_HOME, "
        "else in ~/.local/share.",
    )
    database_url: str = setting("", "SQLAlchemy URL of a PostgreSQL. Empty: SQLite under HOHMANN_HOME.")
    secret_key: str = setting("", "Signs cookies and tokens. Empty: a random key, made once, kept under HOHMANN_HOME.")
    public_url: str = setting(
        "", "Address that people use, when a proxy stands in front, such as https://hohmann.example."
    )
    trusted_proxies: int = setting(0, "How many proxies in front may set X-Forwarded-For and X-Forwarded-Proto.")
    allowed_origins: tuple[str, ...] = setting(
        _no_names, "Other origins that may open websockets, separated by commas."
    )

    # People
    registration: Registration | None = setting(
        None, "open, invite or closed: who may register once an owner exists. Default: open on loopback, else invite."
    )
    default_role: Role = setting(Role.OPERATOR, "Role of a newly registered user.")
    contract_004_anonymous: Opening | None = setting(
        None,
        "read or write: what callers without credentials may do at /api/jobs/ and /api/jobstatuses/, in the default "
        "project. Empty: nothing.",
    )
    session_days: int = setting(30, "How long a browser stays signed in.", unit="days")
    token_hours: int = setting(24, "How long a JWT is good for.", unit="hours")
    login_failures: int = setting(10, "Failed log-ins of one name from one address before it has to wait.")
    login_window: int = setting(300, "Time in which failed log-ins are counted.", unit="seconds")
    allow_ws_query_token: bool = setting(
        False, "Let websockets carry their token in the query, where logs may keep it."
    )

    # Processes
    web_workers: int = setting(2, "Web processes.")
    web_threads: int = setting(8, "Threads of each web process.")
    workers: int = setting(1, "Worker processes that the stack starts.")
    worker_slots: int = setting(lambda: max(2, os.cpu_count() or 2), "Runs that one worker executes at once.")
    lease_seconds: float = setting(6.0, "A run whose worker was silent for this long is taken over.", unit="seconds")
    heartbeat_seconds: float = setting(1.5, "How often a worker says that it is alive.", unit="seconds")
    cancel_seconds: float = setting(3.0, "Time a cancelled run has to end before it is killed.", unit="seconds")
    run_memory_mb: int = setting(
        512, "A warm child process that has grown past this is replaced after its run.", unit="MB"
    )
    executor: Executor = setting(
        Executor.LOCAL, "local or airflow: who executes the runs of jobs that do not say it themselves."
    )
    keep_events_days: int = setting(7, "How long the event log reaches back.", unit="days")

    # Data
    data_roots: tuple[Path, ...] = setting(
        _no_paths, "Further folders that files may be read from and written to, separated by colons."
    )
    hohmann_allow_private_addresses: bool = setting(
        False,
        "Allow loopback and private addresses wherever users say where to connect: sources and destinations "
        "(databases, object stores, catalogs, SFTP, APIs), their tests and discovery, tasks that read an API, and "
        "webhooks. Link-local and metadata addresses are never allowed.",
    )
    engine_memory_mb: int = setting(192, "Memory that DuckDB may use for one load.", unit="MB")
    parachute_min_free_percent: float = setting(
        5.0,
        "With less of its disk free, a DuckDB destination lets kept earlier contents go, oldest first; 0 keeps them.",
        unit="percent",
    )

    # Machines at the door
    cors_origins: tuple[str, ...] = setting(
        _no_names, "Origins whose pages may use the JSON API, separated by commas; * for any. Empty: none."
    )
    cors_methods: tuple[str, ...] = setting(
        ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"), "Methods that those pages may use."
    )
    cors_headers: tuple[str, ...] = setting(("*",), "Request headers that those pages may send; * for any.")
    cors_credentials: bool = setting(
        False, "Let those pages use the visitor's cookie. The origins must be named one by one then."
    )
    cors_max_age: int = setting(600, "How long a browser may remember what a preflight said.", unit="seconds")
    rate_limit: str = setting(
        "120000/minute", "Calls of the JSON API that one user or token may make, like 600/minute; 0 for no limit."
    )
    rate_limit_strangers: str = setting(
        "6000/minute", "Calls of the JSON API from one address without a good token; 0 for no limit."
    )
    compress_min_bytes: int = setting(
        1024, "Answers of at least this size are compressed; 0 leaves that to a proxy.", unit="bytes"
    )

    # Apache Airflow
    airflow_url: str = setting(
        "", "Address of an Apache Airflow 3, such as http://127.0.0.1:8080. Plain flights are flown by its DAG then."
    )
    airflow_username: str = setting("", "User of Airflow's log-in. Empty: Airflow lets everybody in, or AIRFLOW_TOKEN.")
    airflow_password: str = setting("", "Password of that user.")
    airflow_token: str = setting("", "A token of Airflow's API, instead of user and password.")
    airflow_rocket_dag: str = setting("rocket_flight_dag", "The DAG that flies a rocket without a job.")
    airflow_run_dag: str = setting("hohmann_run_dag", "The DAG that executes a run.")
    airflow_timeout: float = setting(10.0, "How long one call to Airflow may take.", unit="seconds")
    airflow_retry_seconds: float = setting(
        30.0, "Longest pause before a flight that Airflow did not take is handed over again.", unit="seconds"
    )
    airflow_look_seconds: float = setting(
        10.0, "A flight that said nothing for this long is looked up in Airflow.", unit="seconds"
    )
    airflow_lease_seconds: float = setting(
        30.0, "A run on Airflow that was silent for this long starts again.", unit="seconds"
    )

    # Limits
    max_body_bytes: int = setting(8 * 1024 * 1024, "Largest request body.", unit="bytes")
    log_level: str = setting("INFO", "Level of the process logs on standard error.")
    log_format: LogFormat = setting(LogFormat.TEXT, "text, or json: one object a line, with the request's id.")

    @classmethod
    def from_environment(cls, environ: dict[str, str] | None = None) -> Self:
        """Read all settings. Raises ConfigError that names the variable and what it may be."""
        env = dict(os.environ) if environ is None else environ
        given = {
            f.name: _parse(f.name.upper(), f.type, env[f.name.upper()]) for f in fields(cls) if env.get(f.name.upper())
        }
        _database_url(given.get("database_url", ""))
        settings = cls(**given)
        _check_key(settings.secret_key)
        settings.check_airflow()
        return settings

    def check_airflow(self) -> None:
        """Raise ConfigError when Airflow shall execute runs and nobody knows where it is."""
        if self.airflow_url and not self.airflow_url.startswith(("http://", "https://")):
            raise ConfigError("AIRFLOW_URL", "must start with http:// or https://")
        if self.executor is Executor.AIRFLOW and not self.airflow_url:
            raise ConfigError("EXECUTOR", "airflow needs AIRFLOW_URL")

    @property
    def on_loopback(self) -> bool:
        """Whether the web server can be reached from this machine only."""
        return self.bind in {"127.0.0.1", "::1", "localhost"}

    @property
    def base_url(self) -> str:
        """The address that people open."""
        host = "127.0.0.1" if self.on_loopback or self.bind == "0.0.0.0" else self.bind  # noqa: S104 - compared, not bound
        return self.public_url.rstrip("/") or f"http://{host}:{self.port}"

    @property
    def registration_mode(self) -> Registration:
        """The registration rule in force."""
        return self.registration or (Registration.OPEN if self.on_loopback else Registration.INVITE)

    @property
    def sqlalchemy_url(self) -> str:
        """The database's URL with the driver named: psycopg2, as `webapp/trips.py` drives it."""
        if self.database_url:
            _, _, rest = self.database_url.partition("://")
            return f"postgresql+few_trips://{rest}"
        return f"sqlite:///{self.hohmann_home / 'hohmann.db'}"

    @property
    def data_folder(self) -> Path:
        """The allowed root that every instance has; relative paths in job configs lie under it."""
        return self.hohmann_home / "data"

    @property
    def warehouse(self) -> Path:
        """The instance's own DuckDB file."""
        return self.hohmann_home / "warehouse" / "warehouse.duckdb"

    @property
    def run_folder(self) -> Path:
        """Sockets, wake-up files and pids of the processes that run now."""
        return self.hohmann_home / "run"

    def load_secret_key(self) -> str:
        """The signing key: the one that is set, else the instance's own, made at first use, readable by its owner."""
        return self.secret_key or _own_key(self.hohmann_home / "keys" / "secret_key")


def _own_key(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(handle, "w") as file:
        key = secrets.token_urlsafe(48)
        file.write(key)
    return key


def _check_key(key: str) -> None:
    if key and (key.lower() in WEAK_KEYS or len(key) < MINIMUM_KEY_LENGTH):
        raise ConfigError(
            "SECRET_KEY", f"too weak; use at least {MINIMUM_KEY_LENGTH} random characters, or leave it out"
        )


def _parse(name: str, kind: Any, text: str) -> Any:
    try:
        return _PARSERS.get(kind, kind)(text)
    except (ValueError, KeyError) as error:
        raise ConfigError(name, f"{text!r} cannot be used: {_wanted(kind)}") from error


def _boolean(text: str) -> bool:
    return {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}[
        text.lower()
    ]


def _database_url(text: str) -> str:
    if text and text.partition("://")[0] not in {"postgresql", "postgres", "postgresql+psycopg2"}:
        raise ConfigError("DATABASE_URL", "must start with postgresql://, or be empty for the embedded SQLite")
    return text


_PARSERS: dict[Any, Any] = {
    bool: _boolean,
    Path: lambda text: Path(text).expanduser().absolute(),
    tuple[Path, ...]: lambda text: tuple(Path(part).expanduser().absolute() for part in text.split(":") if part),
    tuple[str, ...]: lambda text: tuple(part.strip() for part in text.split(",") if part.strip()),
    Opening | None: lambda text: Opening(text.lower()),
    Registration | None: lambda text: Registration(text.lower()),
    Role: lambda text: Role(text.lower()),
    LogFormat: lambda text: LogFormat(text.lower()),
    Executor: lambda text: Executor(text.lower()),
}


def _wanted(kind: Any) -> str:
    if kind is bool:
        return "use 1 or 0"
    for choices in (Registration, Opening, Role, Executor, LogFormat):
        if kind in (choices, choices | None):
            return "use one of " + ", ".join(choices)
    return f"a value of type {getattr(kind, '__name__', kind)} is needed"


def _as_written(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(default)
    return str(int(default)) if isinstance(default, bool) else str(default)


def document_settings() -> list[tuple[str, str, str]]:
    """Every setting as (environment variable, default, meaning), in the order of this file."""
    rows = []
    for item in fields(Settings):
        default = item.default if item.default is not MISSING else ""
        unit = f" In {item.metadata['unit']}." if item.metadata["unit"] else ""
        shown = _as_written(default)
        rows.append((item.name.upper(), "" if default in ("", None, ()) else shown, item.metadata["doc"] + unit))
    return rows
