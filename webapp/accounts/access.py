"""Who acts, and what that actor may do. Operations ask here; doors only find out who it is."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from webapp.config import Role
from webapp.errors import NotAllowed, NotFound

ROLE_ORDER = tuple(Role)


class Scope(StrEnum):
    """What a service token may be used for."""

    READ = "read"
    ROCKETS_WRITE = "rockets:write"
    JOBS_WRITE = "jobs:write"
    JOBS_RUN = "jobs:run"
    RUNS_EXECUTE = "runs:execute"


class Via(StrEnum):
    """How the actor came in."""

    COOKIE = "cookie"
    JWT = "jwt"
    SERVICE_TOKEN = "service_token"  # noqa: S105 - a kind of token, not a token
    ANONYMOUS = "anonymous"  # a caller without credentials, at doors that a setting has opened
    SYSTEM = "system"


@dataclass(frozen=True)
class Actor:
    """Somebody who asks for something: a person, a machine's token, or the system itself."""

    name: str
    via: Via
    user_id: uuid.UUID | None = None
    email: str | None = None
    is_instance_admin: bool = False
    memberships: Mapping[uuid.UUID, Role] = field(default_factory=dict)
    scopes: frozenset[str] | None = None  # None: everything that the role allows
    token_id: uuid.UUID | None = None  # of the service token, when the actor is one

    @property
    def project_ids(self) -> tuple[uuid.UUID, ...]:
        """The projects that the actor belongs to."""
        return tuple(self.memberships)

    @property
    def default_project_id(self) -> uuid.UUID:
        """Where new things go when nothing else is said. Raises NotAllowed for an actor without a project."""
        for project_id in self.memberships:
            return project_id
        raise NotAllowed("You do not belong to any project. Ask an admin to add you.")

    def within(self, project_id: uuid.UUID) -> "Actor":
        """The same actor with this project alone, which so is the default one. Raises NotFound for a stranger."""
        if project_id not in self.memberships:
            raise NotFound("Project not found")
        return replace(self, memberships={project_id: self.memberships[project_id]})

    def can_see(self, project_id: uuid.UUID | None) -> bool:
        """Whether things of this project are shown to the actor."""
        return self.via is Via.SYSTEM or project_id in self.memberships

    def has(self, role: Role, project_id: uuid.UUID, scope: Scope) -> bool:
        """Whether the actor has at least this role in the project, and its token this scope."""
        if self.via is Via.SYSTEM:
            return True
        own = self.memberships.get(project_id)
        in_scope = self.scopes is None or scope in self.scopes
        return own is not None and in_scope and ROLE_ORDER.index(own) >= ROLE_ORDER.index(role)

    def require(self, role: Role, project_id: uuid.UUID, scope: Scope, *, what: str) -> None:
        """Raise NotFound for a stranger and NotAllowed for a member with too small a role or scope."""
        if not self.can_see(project_id):
            raise NotFound(f"{what} not found")
        if self.scopes is not None and scope not in self.scopes:
            raise NotAllowed(f"This token lacks the scope {scope}.", needed_scope=str(scope))
        if not self.has(role, project_id, scope):
            raise NotAllowed(
                f"This needs the role {role}; you are {self.memberships[project_id]}.", needed_role=str(role)
            )

    @property
    def may_read(self) -> bool:
        """Whether the actor may look at what its projects hold: anybody but a token without the scope for it."""
        return self.scopes is None or Scope.READ in self.scopes

    def require_admin(self) -> None:
        """Raise NotAllowed for anybody but an admin of the instance in person."""
        if not (self.is_instance_admin or self.via is Via.SYSTEM) or self.scopes is not None:
            raise NotAllowed("Only an admin may do this.", needed_role="admin")


SYSTEM = Actor(name="mission control", via=Via.SYSTEM)


def check_scopes(scopes: Iterable[str]) -> list[str]:
    """The scopes in a fixed order. Raises ValueError that names an unknown one."""
    wanted = set(scopes)
    unknown = wanted - set(Scope)
    if unknown:
        raise ValueError(f"unknown scope {sorted(unknown)[0]!r}; known: {', '.join(Scope)}")
    return [str(scope) for scope in Scope if scope in wanted]
