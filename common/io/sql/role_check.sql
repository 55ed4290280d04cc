-- Is the role of this connection fit for a service? It must not be, nor be able to become, a superuser or a role that
-- bypasses row-level security, and must not own or be able to own a table.
-- No parameters. Columns: role name; bool: it may become a superuser; bool: it may bypass row-level security; text: one
-- table that it owns, NULL for none. No locks. Catalogues only.
SELECT session_user::text,
       EXISTS (SELECT FROM pg_roles r WHERE r.rolsuper AND pg_has_role(session_user, r.oid, 'MEMBER')),
       EXISTS (SELECT FROM pg_roles r WHERE r.rolbypassrls AND pg_has_role(session_user, r.oid, 'MEMBER')),
       (SELECT c.oid::regclass::text
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
           AND pg_has_role(session_user, c.relowner, 'MEMBER')
         LIMIT 1)
