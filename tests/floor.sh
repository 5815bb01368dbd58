# What somebody would type to bring the demo site up, once, on a fresh server: the floor for `make bench`.
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends postgresql pgbouncer redis-server nginx pgbackrest restic python3-venv python3-psycopg2 \
    python3-cryptography >/dev/null

useradd --system --home-dir /srv/app app
cat >/etc/postgresql/17/main/conf.d/floor.conf <<'END'
shared_buffers = 512MB
archive_mode = on
archive_command = 'pgbackrest --stanza=main archive-push %p'
END
sed -i '1i local app app scram-sha-256' /etc/postgresql/17/main/pg_hba.conf
mkdir -p /etc/pgbackrest
cat >/etc/pgbackrest/pgbackrest.conf <<'END'
[global]
repo1-path=/var/lib/pgbackrest
[main]
pg1-path=/var/lib/postgresql/17/main
END
systemctl restart postgresql@17-main
cd /
runuser -u postgres -- psql -qc "CREATE ROLE app LOGIN PASSWORD 'floor'"
runuser -u postgres -- createdb --owner app app
runuser -u postgres -- pgbackrest --stanza=main --log-level-console=error stanza-create
cat >/etc/pgbouncer/pgbouncer.ini <<'END'
[databases]
app = host=/run/postgresql
[pgbouncer]
unix_socket_dir = /run/postgresql
listen_port = 6432
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/userlist.txt
pool_mode = transaction
END
echo '"app" "floor"' >/etc/pgbouncer/userlist.txt
systemctl restart pgbouncer

printf 'port 0\nunixsocket /run/redis/redis-server.sock\nunixsocketperm 777\nmaxmemory 256mb\n' >/etc/redis/redis.conf
systemctl restart redis-server

export RESTIC_PASSWORD=floor
restic init -q --repo /var/backups/media

python3 -m venv /opt/uv
/opt/uv/bin/pip install -q uv
cd /srv/app
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
/opt/uv/bin/uv venv -q .venv
/opt/uv/bin/uv pip install -q --compile-bytecode --python .venv -r requirements.txt
cat >/etc/app.env <<'END'
DJANGO_SETTINGS_MODULE=config.production
SECRET_KEY=a-key-for-the-floor-that-is-long-enough-to-be-accepted-by-everything
DATABASE_URL=postgres://app:floor@:6432/app?host=/run/postgresql
REDIS_URL=unix:///run/redis/redis-server.sock
ALLOWED_HOSTS=guestbook.test
CSRF_TRUSTED_ORIGINS=https://guestbook.test
STATIC_ROOT=/srv/app/static
MEDIA_ROOT=/srv/app/media
END
mkdir -p static media
chown app media
set -a
. /etc/app.env
set +a
.venv/bin/python manage.py migrate -v 0
.venv/bin/python manage.py collectstatic -v 0 --noinput
find static -name '*.css' -exec gzip -k {} +

cat >/etc/systemd/system/app.service <<'END'
[Service]
User=app
WorkingDirectory=/srv/app
EnvironmentFile=/etc/app.env
ExecStart=/srv/app/.venv/bin/gunicorn --bind unix:/run/app/socket --workers 5 --threads 4 config.wsgi
RuntimeDirectory=app
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable -q --now app

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=guestbook.test -addext \
    subjectAltName=DNS:guestbook.test -keyout /etc/ssl/private/app.key -out /etc/ssl/app.pem 2>/dev/null
cat >/etc/nginx/sites-enabled/default <<'END'
server {
    listen 443 ssl default_server;
    ssl_certificate /etc/ssl/app.pem;
    ssl_certificate_key /etc/ssl/private/app.key;
    location /static/ { alias /srv/app/static/; }
    location /media/ { alias /srv/app/media/; }
    location / { proxy_pass http://unix:/run/app/socket; proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto https; }
}
END
systemctl restart nginx
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    python3 -c "
import ssl, urllib.request as request
trust = ssl._create_unverified_context()
request.urlopen(request.Request('https://127.0.0.1/health/', headers={'Host': 'guestbook.test'}), context=trust)" && exit 0
    sleep 0.3
done
exit 1
