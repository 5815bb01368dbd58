-- Each query finds the statements that are still needed; they are printed, and executed unless this is a dry run.
{% for database in postgres_databases %}

SELECT count(*) = 1 AS present FROM pg_database WHERE datname = '{{ database.name }}' \gset
\if :present
\connect "{{ database.name }}"
SELECT statement FROM (
  SELECT 1, 'REVOKE ALL ON DATABASE "{{ database.name }}" FROM PUBLIC'
    FROM pg_database
   WHERE datname = current_database()
     AND EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0)
{% for extension in database.extensions | default([]) %}
  UNION ALL
  SELECT 2, 'CREATE EXTENSION "{{ extension }}" CASCADE'
   WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = '{{ extension }}')
{% endfor %}
{% if postgres_pooler %}
  UNION ALL
  SELECT 3, 'GRANT CONNECT ON DATABASE "{{ database.name }}" TO "{{ postgres_pooler }}"'
   WHERE NOT EXISTS (
     SELECT FROM pg_database, aclexplode(datacl) JOIN pg_roles ON pg_roles.oid = grantee
      WHERE datname = current_database() AND rolname = '{{ postgres_pooler }}' AND privilege_type = 'CONNECT')
  UNION ALL
  SELECT 4, 'CREATE SCHEMA IF NOT EXISTS pgbouncer; ALTER SCHEMA pgbouncer OWNER TO postgres; '
            'GRANT USAGE ON SCHEMA pgbouncer TO "{{ postgres_pooler }}"'
   WHERE NOT EXISTS (
     SELECT FROM pg_namespace, aclexplode(nspacl) JOIN pg_roles ON pg_roles.oid = grantee
      WHERE nspname = 'pgbouncer' AND nspowner = (SELECT oid FROM pg_roles WHERE rolname = 'postgres')
        AND rolname = '{{ postgres_pooler }}' AND privilege_type = 'USAGE')
  UNION ALL
  SELECT 5, format('DROP FUNCTION IF EXISTS pgbouncer.get_auth(text); '
            'CREATE FUNCTION pgbouncer.get_auth(login text) RETURNS TABLE (usename name, passwd text) '
            'LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS %L; '
            'REVOKE ALL ON FUNCTION pgbouncer.get_auth(text) FROM PUBLIC; '
            'GRANT EXECUTE ON FUNCTION pgbouncer.get_auth(text) TO "{{ postgres_pooler }}"', body)
    FROM (VALUES (
           'SELECT rolname, rolpassword FROM pg_authid '
           'WHERE rolname = login AND rolcanlogin AND NOT rolsuper AND NOT rolreplication AND NOT rolbypassrls '
           'AND (rolvaliduntil IS NULL OR rolvaliduntil > now())')) AS wanted (body)
   WHERE NOT EXISTS (
     SELECT FROM pg_proc
      WHERE oid = to_regprocedure('pgbouncer.get_auth(text)')
        AND prosrc = body AND prosecdef AND provolatile = 's'
        AND proconfig = ARRAY['search_path=pg_catalog, pg_temp']
        AND proowner = (SELECT oid FROM pg_roles WHERE rolname = 'postgres')
        AND (SELECT array_agg(coalesce(rolname, 'PUBLIC')::text ORDER BY rolname)
               FROM aclexplode(proacl) LEFT JOIN pg_roles ON pg_roles.oid = grantee)
            = ARRAY['{{ ['postgres', postgres_pooler] | sort | join("', '") }}'])
{% endif %}
) AS plan (step, statement) ORDER BY step
\g
\if :apply
\gexec
\endif
\endif
{% endfor %}
