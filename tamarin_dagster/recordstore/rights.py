"""Whether the database's user may create tables and owns the existing ones, as a migration and a load need."""

from dataclasses import dataclass

import sqlalchemy as sa

from tamarin_dagster.recordstore.schema.tables import metadata

# Read from the catalogs, because the text of an error is in the server's language.
_RIGHTS = sa.text(
    """
    SELECT
        current_user AS user,
        to_regnamespace('public') IS NOT NULL AS has_schema,
        coalesce(has_schema_privilege(to_regnamespace('public'), 'USAGE'), false)
            AND coalesce(has_schema_privilege(to_regnamespace('public'), 'CREATE'), false) AS may_create,
        ARRAY(
            SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class
            WHERE relnamespace = to_regnamespace('public') AND relkind IN ('r', 'p')
                AND (relname = ANY(:names) OR relname LIKE 's3\\_log\\_record\\_%')
                AND NOT pg_has_role(relowner, 'USAGE')
            ORDER BY 1
        ) AS owners
    """
)


@dataclass(frozen=True, slots=True)
class Rights:
    """The privileges of the connection's user.

    Attributes:
        user: its name.
        has_schema, may_create: whether there is a schema public, and whether it may create tables in it.
        owners: the roles that own our tables and of which it is not a member.
    """

    user: str
    has_schema: bool
    may_create: bool
    owners: tuple[str, ...]

    @property
    def problem(self) -> str:
        """Return what is missing; empty if nothing is."""
        if not self.has_schema:
            return "there is no schema public"
        if self.owners:
            return (
                f"its tables belong to {' and '.join(self.owners)}, and the user {self.user} is not a member of that"
                " role"
            )
        return "" if self.may_create else f"the user {self.user} may not create tables in the schema public"

    @property
    def remedy(self) -> str:
        """Return the remedy; empty if nothing is missing."""
        user = _quote(self.user)
        if not self.has_schema:
            return f"let an administrator run: CREATE SCHEMA public AUTHORIZATION {user}"
        if self.owners:
            grants = "; ".join(f"GRANT {_quote(owner)} TO {user}" for owner in self.owners)
            return f"connect as {self.owners[0]}, or let an administrator run: {grants}"
        return "" if self.may_create else f"let an administrator run: GRANT USAGE, CREATE ON SCHEMA public TO {user}"


def get_rights(connection: sa.Connection) -> Rights:
    """Return the privileges of the connection's user."""
    row = connection.execute(_RIGHTS, {"names": ["alembic_version", *metadata.tables]}).one()
    return Rights(row.user, row.has_schema, row.may_create, tuple(row.owners))


def _quote(role: str) -> str:
    return '"' + role.replace('"', '""') + '"'
