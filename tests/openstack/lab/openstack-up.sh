#!/bin/bash
# A real OpenStack control plane (Debian 12 packages: Keystone, Placement, Glance, Neutron ML2, Nova with its
# fake virt driver, MariaDB, RabbitMQ) on loopback, seeded with projects and servers. Idempotent.
#   openstack-up.sh                 install what is missing, start, seed, print the clouds.yaml path
#   openstack-up.sh start NAME...   start only these services again (after openstack-down.sh NAME)
#   openstack-up.sh seed            put the seed data back (projects, servers, roles), services must be up
# Needs root, apt access to a Debian 12 mirror for the first run. Knobs: see lab-common.sh.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lab-common.sh"
[ "$(id -u)" = 0 ] || die 'must run as root'

PACKAGES=(python3-keystone python3-nova python3-neutron python3-placement python3-glance python3-openstacksdk
  python3-pymysql uwsgi-core uwsgi-plugin-python3 rabbitmq-server mariadb-server)
UNPACK=(nova-common neutron-common glance-common)   # only their api-paste.ini: unpacked, not installed

install_packages() {
  local missing=() p
  for p in "${PACKAGES[@]}"; do
    dpkg-query -W -f='${Status}\n' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    log "apt-get install ${missing[*]}"
    # the packages' own services must not start: a policy-rc.d for the time of the installation, if there is none
    local ours=; [ -e /usr/sbin/policy-rc.d ] || { ours=1; printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; }
    apt-get update -q >"$LAB/log/apt.log" 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${missing[@]}" >>"$LAB/log/apt.log" 2>&1
    local rc=$?
    [ -z "$ours" ] || rm -f /usr/sbin/policy-rc.d
    [ $rc = 0 ] || die "apt-get failed, see $LAB/log/apt.log"
  fi
  if [ ! -e "$LAB/pkg/.done" ]; then
    mkdir -p "$LAB/pkg/deb"
    ( cd "$LAB/pkg/deb" && apt-get download -q "${UNPACK[@]}" >>"$LAB/log/apt.log" 2>&1 ) || die "apt-get download failed, see $LAB/log/apt.log"
    for p in "$LAB"/pkg/deb/*.deb; do dpkg-deb -x "$p" "$LAB/pkg/root" || die "cannot unpack $p"; done
    touch "$LAB/pkg/.done"
  fi
}

render() { # render TEMPLATE DEST [SVC]
  local auth; auth=$(sed -e "s|@SVC@|${3:-}|" "$HERE/templates/authtoken.inc")
  awk -v auth="$auth" '$0 == "@AUTHTOKEN@" { print auth; next } { print }' "$HERE/templates/$1" |
    sed -e "s|@LAB@|$LAB|g" -e "s|@DB@|mysql+pymysql://root@localhost|" -e "s|@DBARG@|?unix_socket=$SOCK\&charset=utf8|" \
      -e "s|@LAB_PASSWORD@|$LAB_PASSWORD|g" -e "s|@LAB_REGION1@|$LAB_REGION1|g" -e "s|@LAB_MAX_LIMIT@|$LAB_MAX_LIMIT|g" \
      -e "s|@P_KEYSTONE@|$P_KEYSTONE|g" -e "s|@P_RABBIT@|$P_RABBIT|g" -e "s|@P_GLANCE@|$P_GLANCE|g" -e "s|@P_NEUTRON@|$P_NEUTRON|g" \
    > "$2"
}

configure() {
  local e=$LAB/etc s
  mkdir -p "$e"/{keystone,nova,neutron,placement,glance} "$LAB"/{bin,py} "$LAB"/data/{keystone,nova/instances,nova/lock,neutron/lock,glance/images,glance/staging,rabbit}
  render keystone.conf "$e/keystone/keystone.conf"
  render placement.conf "$e/placement/placement.conf" placement
  render glance-api.conf "$e/glance/glance-api.conf" glance
  render neutron.conf "$e/neutron/neutron.conf" neutron
  render ml2.ini "$e/neutron/ml2.ini"
  render nova.conf "$e/nova/nova.conf" nova
  for s in keystone nova neutron; do
    if [ "$LAB_POLICY" = stock ] || [ ! -e "$HERE/templates/$s-policy.yaml" ]; then echo '{}' > "$e/$s/policy.yaml"; else cp "$HERE/templates/$s-policy.yaml" "$e/$s/policy.yaml"; fi
  done
  # the packages' own paste files, plus the fault filter right behind authtoken
  for s in nova/api-paste.ini:nova-common neutron/api-paste.ini:neutron-common glance/glance-api-paste.ini:glance-common; do
    local name=${s%%/*} dest=$e/${s%%:*}
    cp "$LAB/pkg/root/usr/share/${s##*:}/$(basename "${s%%:*}")" "$dest"
    [ "$name" = glance ] && continue
    sed -i -E '/^keystone = .*authtoken/ s/authtoken/authtoken labfault/' "$dest"
    printf '\n[filter:labfault]\npaste.filter_factory = labfault:factory\nservice = %s\n' "$name" >> "$dest"
  done
  cp "$HERE/labfault.py" "$LAB/py/labfault.py"
  printf 'import labfault\nfrom keystone.server.wsgi import initialize_public_application\napplication = labfault.Fault(initialize_public_application(), "keystone")\n' > "$LAB/py/wsgi_keystone.py"
  printf 'from placement.wsgi import init_application\napplication = init_application()\n' > "$LAB/py/wsgi_placement.py"
  printf 'from glance.common.wsgi_app import init_app\napplication = init_app()\n' > "$LAB/py/wsgi_glance.py"
  printf 'from nova.api.openstack.compute.wsgi import init_application\napplication = init_application()\n' > "$LAB/py/wsgi_nova-api.py"
  uwsgi_ini() { sed -e "s|@LAB@|$LAB|g" -e "s|@PORT@|$2|" -e "s|@APP@|$3|" -e "s|@PROCS@|$4|" -e "s|@THREADS@|$5|" "$HERE/templates/uwsgi.ini" > "$e/uwsgi-$1.ini"; echo "$6" >> "$e/uwsgi-$1.ini"; }
  uwsgi_ini keystone "$P_KEYSTONE" keystone 1 6 "env = OS_KEYSTONE_CONFIG_FILES=$e/keystone/keystone.conf"
  uwsgi_ini placement "$P_PLACEMENT" placement 1 4 "env = OS_PLACEMENT_CONFIG_DIR=$e/placement"
  uwsgi_ini glance "$P_GLANCE" glance 1 1 "env = OS_GLANCE_CONFIG_DIR=$e/glance"
  uwsgi_ini nova-api "$P_NOVA" nova-api 3 1 "env = OS_NOVA_CONFIG_DIR=$e/nova"
  uwsgi_ini nova-api-r2 "$P_NOVA2" nova-api 1 1 "env = OS_NOVA_CONFIG_DIR=$e/nova"
  for s in nova-manage:nova.cmd.manage nova-conductor:nova.cmd.conductor nova-scheduler:nova.cmd.scheduler nova-compute:nova.cmd.compute \
           neutron-server:neutron.cmd.eventlet.server neutron-db-manage:neutron.db.migration.cli; do
    printf '#!/usr/bin/python3\nimport sys\nfrom %s import main\nsys.exit(main())\n' "${s##*:}" > "$LAB/bin/${s%%:*}"
    chmod 755 "$LAB/bin/${s%%:*}"
  done
  echo '[].' > "$e/rabbit-plugins"
  : > "$e/rabbit-env.conf"
  printf 'loopback_users.guest = true\nvm_memory_high_watermark.absolute = 512MiB\ndisk_free_limit.absolute = 50MB\n' > "$e/rabbitmq.conf"
}

sql() { mariadb --no-defaults --socket="$SOCK" -uroot "$@"; }

databases() {
  if [ ! -d "$LAB/mysql/data/mysql" ]; then
    mkdir -p "$LAB/mysql"; chown mysql "$LAB/mysql"
    mariadb-install-db --no-defaults --user=mysql --datadir="$LAB/mysql/data" --skip-test-db \
      --auth-root-authentication-method=normal >"$LAB/log/install-db.log" 2>&1 || die "mariadb-install-db, see $LAB/log/install-db.log"
  fi
  start mariadb; wait_for mariadb 60 sql -e 'select 1'
  local d; for d in keystone placement glance neutron nova nova_api nova_cell0; do sql -e "create database if not exists $d character set utf8"; done
}

schemas() { # each once; independent ones side by side
  export PYTHONWARNINGS=ignore
  local e=$LAB/etc jobs=() j
  once() { local mark=$LAB/state/$1; shift; [ -e "$mark" ] || { "$@" && touch "$mark"; }; }
  keystone_db() { OS_KEYSTONE_CONFIG_FILES=$e/keystone/keystone.conf; local k=(keystone-manage --config-file $e/keystone/keystone.conf)
    "${k[@]}" db_sync && "${k[@]}" fernet_setup --keystone-user root --keystone-group root && "${k[@]}" credential_setup --keystone-user root --keystone-group root &&
    "${k[@]}" bootstrap --bootstrap-password "$LAB_PASSWORD" --bootstrap-region-id "$LAB_REGION1" --bootstrap-public-url "http://127.0.0.1:$P_KEYSTONE/v3" \
      --bootstrap-internal-url "http://127.0.0.1:$P_KEYSTONE/v3" --bootstrap-admin-url "http://127.0.0.1:$P_KEYSTONE/v3"; }
  placement_db() { OS_PLACEMENT_CONFIG_DIR=$e/placement $PY -c 'import sys; sys.argv=["placement-manage","--config-file","'$e'/placement/placement.conf","db","sync"]; from placement.cmd.manage import main; sys.exit(main())'; }
  glance_db() { $PY -c 'import sys; sys.argv=["glance-manage","--config-file","'$e'/glance/glance-api.conf","db_sync"]; from glance.cmd.manage import main; sys.exit(main())'; }
  neutron_db() { $PY "$LAB/bin/neutron-db-manage" --config-file $e/neutron/neutron.conf --config-file $e/neutron/ml2.ini upgrade head; }
  nova_db() { local m=($PY "$LAB/bin/nova-manage" --config-file $e/nova/nova.conf) u="mysql+pymysql://root@localhost"
    "${m[@]}" api_db sync && { "${m[@]}" cell_v2 map_cell0 --database_connection "$u/nova_cell0?unix_socket=$SOCK&charset=utf8" || true; } &&
    { "${m[@]}" cell_v2 list_cells | grep -q cell1 || "${m[@]}" cell_v2 create_cell --name cell1 --verbose; } && "${m[@]}" db sync; }
  for j in keystone nova neutron glance placement; do
    once "$j-db" "${j}_db" >"$LAB/log/$j-db.log" 2>&1 & jobs+=($!)
  done
  wait "${jobs[@]}"
  for j in keystone nova neutron glance placement; do [ -e "$LAB/state/$j-db" ] || die "$j schema, see $LAB/log/$j-db.log"; done
}

up_service() { # start one and wait until it answers
  local p; start "$1"; p=$(port_of "$1")
  case $1 in
    mariadb) wait_for mariadb 60 sql -e 'select 1';;
    nova-conductor|nova-scheduler|nova-compute) ;;
    epmd|rabbitmq) wait_for "$1" 90 port_open "$p";;
    *) wait_for "$1" 120 http_up "$p";;
  esac
}

seed() {
  rm -f "$LAB/faults.json"
  LAB=$LAB P_KEYSTONE=$P_KEYSTONE P_NOVA=$P_NOVA P_NOVA2=$P_NOVA2 P_NEUTRON=$P_NEUTRON P_GLANCE=$P_GLANCE P_PLACEMENT=$P_PLACEMENT \
    LAB_REGION1=$LAB_REGION1 LAB_REGION2=$LAB_REGION2 LAB_PASSWORD=$LAB_PASSWORD LAB_IPV6=${LAB_IPV6:-0} PYTHONWARNINGS=ignore \
    PYTHONDONTWRITEBYTECODE=1 HERE=$HERE $PY "$HERE/seed.py" "$@" 2>>"$LAB/log/seed.log" || { tail -n 5 "$LAB/log/seed.log" >&2; return 1; }
}

mkdir -p "$LAB"/{etc,log,run,state,data,pkg}
case ${1:-all} in
  start) shift; [ $# -gt 0 ] || die 'start what?'; for s in "$@"; do up_service "$s"; log "$s up"; done; exit 0;;
  seed) ;;
  all)
    install_packages; log 'packages present'
    configure
    databases; start epmd; sleep 0.3; start rabbitmq; log 'mariadb up, rabbitmq starting'
    schemas; log 'schemas present'
    wait_for rabbitmq 90 port_open "$P_RABBIT"; log 'rabbitmq up'
    up_service keystone; log 'keystone up'
    seed identity || die 'seeding keystone failed'   # the other services log in with users made here
    for s in placement glance neutron-server nova-conductor nova-scheduler nova-compute nova-api nova-api-r2; do start "$s"; done
    for s in placement glance neutron-server nova-api nova-api-r2; do wait_for "$s" 120 http_up "$(port_of "$s")"; log "$s up"; done
    ;;
  *) die "usage: openstack-up.sh [start NAME...|seed]";;
esac
seed || die 'seeding failed'
log 'seeded'
echo "clouds.yaml: $LAB/clouds.yaml"
