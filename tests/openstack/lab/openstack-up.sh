#!/bin/bash
# A real OpenStack control plane (Debian 12 packages: Keystone, Placement, Glance, Neutron ML2, Nova with its
# fake virt driver, MariaDB, RabbitMQ) on loopback, seeded with projects and servers. Safe to run again.
#   openstack-up.sh                 install what is missing, start, seed, print the path of clouds.yaml
#   openstack-up.sh install         only install what is missing
#   openstack-up.sh configure       only write the configuration again (after a change of a knob)
#   openstack-up.sh start NAME...   start only these services again (after openstack-down.sh NAME)
#   openstack-up.sh seed            put the seed data back (projects, servers, roles); services must be up
# Needs root, and apt access to a Debian 12 mirror for the first run. Knobs: see lab-common.sh.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=lab-common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lab-common.sh"
[ "$(id -u)" = 0 ] || die 'must run as root'

PACKAGES=(python3-keystone python3-nova python3-neutron python3-placement python3-glance python3-openstacksdk
  python3-pymysql uwsgi-core uwsgi-plugin-python3 rabbitmq-server mariadb-server)
UNPACK=(nova-common neutron-common glance-common) # only their api-paste.ini: unpacked, not installed
DATABASES=(keystone placement glance neutron nova nova_api nova_cell0)
DB=mysql+pymysql://root@localhost
DB_ARGUMENTS="?unix_socket=$SOCK&charset=utf8"

installed() { dpkg-query -W -f='${Status}\n' "$1" 2>/dev/null | grep -q 'ok installed'; }

apt_install() { # the packages' own services must not start: a policy-rc.d for the time of the installation
  local ours='' status
  [ -e /usr/sbin/policy-rc.d ] || {
    ours=1
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
  }
  apt-get update -q >"$LAB/log/apt.log" 2>&1
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$@" \
    >>"$LAB/log/apt.log" 2>&1
  status=$?
  [ -z "$ours" ] || rm -f /usr/sbin/policy-rc.d
  return "$status"
}

install_packages() {
  local missing=() package
  for package in "${PACKAGES[@]}"; do installed "$package" || missing+=("$package"); done
  if [ ${#missing[@]} -gt 0 ]; then
    log "apt-get install ${missing[*]}"
    apt_install "${missing[@]}" || die "apt-get failed, see $LAB/log/apt.log"
  fi
  [ -e "$LAB/pkg/.done" ] && return
  mkdir -p "$LAB/pkg/deb"
  (cd "$LAB/pkg/deb" && apt-get download -q "${UNPACK[@]}" >>"$LAB/log/apt.log" 2>&1) ||
    die "apt-get download failed, see $LAB/log/apt.log"
  for package in "$LAB"/pkg/deb/*.deb; do
    dpkg-deb -x "$package" "$LAB/pkg/root" || die "cannot unpack $package"
  done
  touch "$LAB/pkg/.done"
}

render() { # render TEMPLATE DEST [SERVICE USER]
  local auth
  auth=$(sed -e "s|@SVC@|${3:-}|" "$HERE/templates/authtoken.inc")
  awk -v auth="$auth" '$0 == "@AUTHTOKEN@" { print auth; next } { print }' "$HERE/templates/$1" |
    sed -e "s|@LAB@|$LAB|g" -e "s|@DB@|$DB|" -e "s|@DBARG@|${DB_ARGUMENTS//&/\\&}|" \
      -e "s|@LAB_PASSWORD@|$LAB_PASSWORD|g" -e "s|@LAB_REGION1@|$LAB_REGION1|g" \
      -e "s|@LAB_MAX_LIMIT@|$LAB_MAX_LIMIT|g" -e "s|@P_KEYSTONE@|$P_KEYSTONE|g" -e "s|@P_RABBIT@|$P_RABBIT|g" \
      -e "s|@P_GLANCE@|$P_GLANCE|g" -e "s|@P_NEUTRON@|$P_NEUTRON|g" >"$2"
}

uwsgi_ini() { # uwsgi_ini SERVICE APPLICATION PROCESSES THREADS ENVIRONMENT
  sed -e "s|@LAB@|$LAB|g" -e "s|@PORT@|$(port_of "$1")|" -e "s|@APP@|$2|" -e "s|@PROCS@|$3|" -e "s|@THREADS@|$4|" \
    "$HERE/templates/uwsgi.ini" >"$LAB/etc/uwsgi-$1.ini"
  echo "env = $5" >>"$LAB/etc/uwsgi-$1.ini"
}

wsgi() { # wsgi APPLICATION LINE...
  local file=$LAB/py/wsgi_$1.py
  shift
  printf '%s\n' "$@" >"$file"
}

configure_policy() {
  local service
  for service in keystone nova neutron; do
    if [ "$LAB_POLICY" = stock ] || [ ! -e "$HERE/templates/$service-policy.yaml" ]; then
      echo '{}' >"$LAB/etc/$service/policy.yaml"
    else
      cp "$HERE/templates/$service-policy.yaml" "$LAB/etc/$service/policy.yaml"
    fi
  done
}

configure_paste() { # the packages' own files, plus the fault filter behind authtoken
  local name file dest
  for name in nova neutron glance; do
    file=api-paste.ini
    [ "$name" = glance ] && file=glance-api-paste.ini
    dest=$LAB/etc/$name/$file
    cp "$LAB/pkg/root/usr/share/$name-common/$file" "$dest"
    [ "$name" = glance ] && continue
    sed -i -E '/^keystone = .*authtoken/ s/authtoken/authtoken labfault/' "$dest"
    printf '\n[filter:labfault]\npaste.filter_factory = labfault:factory\nservice = %s\n' "$name" >>"$dest"
  done
}

configure_programs() {
  local program
  for program in nova-manage:nova.cmd.manage nova-conductor:nova.cmd.conductor nova-scheduler:nova.cmd.scheduler \
    nova-compute:nova.cmd.compute neutron-server:neutron.cmd.eventlet.server \
    neutron-db-manage:neutron.db.migration.cli; do
    printf '#!/usr/bin/python3\nimport sys\nfrom %s import main\nsys.exit(main())\n' "${program##*:}" \
      >"$LAB/bin/${program%%:*}"
    chmod 755 "$LAB/bin/${program%%:*}"
  done
}

configure() {
  local etc=$LAB/etc
  mkdir -p "$etc"/{keystone,nova,neutron,placement,glance} "$LAB"/{bin,py}
  mkdir -p "$LAB"/data/{keystone,nova/instances,nova/lock,neutron/lock,glance/images,glance/staging,rabbit}
  render keystone.conf "$etc/keystone/keystone.conf"
  render placement.conf "$etc/placement/placement.conf" placement
  render glance-api.conf "$etc/glance/glance-api.conf" glance
  render neutron.conf "$etc/neutron/neutron.conf" neutron
  render ml2.ini "$etc/neutron/ml2.ini"
  render nova.conf "$etc/nova/nova.conf" nova
  configure_policy
  configure_paste
  cp "$HERE/labfault.py" "$LAB/py/labfault.py"
  wsgi keystone 'import labfault' 'from keystone.server.wsgi import initialize_public_application' \
    'application = labfault.Fault(initialize_public_application(), "keystone")'
  wsgi placement 'from placement.wsgi import init_application' 'application = init_application()'
  wsgi glance 'from glance.common.wsgi_app import init_app' 'application = init_app()'
  wsgi nova-api 'from nova.api.openstack.compute.wsgi import init_application' 'application = init_application()'
  uwsgi_ini keystone keystone 1 6 "OS_KEYSTONE_CONFIG_FILES=$etc/keystone/keystone.conf"
  uwsgi_ini placement placement 1 4 "OS_PLACEMENT_CONFIG_DIR=$etc/placement"
  uwsgi_ini glance glance 1 1 "OS_GLANCE_CONFIG_DIR=$etc/glance"
  uwsgi_ini nova-api nova-api 3 1 "OS_NOVA_CONFIG_DIR=$etc/nova"
  uwsgi_ini nova-api-r2 nova-api 1 1 "OS_NOVA_CONFIG_DIR=$etc/nova"
  configure_programs
  echo '[].' >"$etc/rabbit-plugins"
  : >"$etc/rabbit-env.conf"
  printf '%s\n' 'loopback_users.guest = true' 'vm_memory_high_watermark.absolute = 512MiB' \
    'disk_free_limit.absolute = 50MB' >"$etc/rabbitmq.conf"
}

sql() { mariadb --no-defaults --socket="$SOCK" -uroot "$@"; }

databases() {
  local database
  if [ ! -d "$LAB/mysql/data/mysql" ]; then
    mkdir -p "$LAB/mysql"
    chown mysql "$LAB/mysql"
    mariadb-install-db --no-defaults --user=mysql --datadir="$LAB/mysql/data" --skip-test-db \
      --auth-root-authentication-method=normal >"$LAB/log/install-db.log" 2>&1 ||
      die "mariadb-install-db, see $LAB/log/install-db.log"
  fi
  start mariadb
  wait_for mariadb 60 sql -e 'select 1'
  for database in "${DATABASES[@]}"; do sql -e "create database if not exists $database character set utf8"; done
}

main_of() { # main_of MODULE ARGUMENT...: a program that Debian ships without its script
  local module=$1
  shift
  "$PY" -c 'import importlib, sys; sys.exit(importlib.import_module(sys.argv.pop(1)).main())' "$module" "$@"
}
keystone_db() {
  local manage=(keystone-manage --config-file "$LAB/etc/keystone/keystone.conf")
  local as_root=(--keystone-user root --keystone-group root) url=http://127.0.0.1:$P_KEYSTONE/v3
  "${manage[@]}" db_sync && "${manage[@]}" fernet_setup "${as_root[@]}" &&
    "${manage[@]}" credential_setup "${as_root[@]}" &&
    "${manage[@]}" bootstrap --bootstrap-password "$LAB_PASSWORD" --bootstrap-region-id "$LAB_REGION1" \
      --bootstrap-public-url "$url" --bootstrap-internal-url "$url" --bootstrap-admin-url "$url"
}
placement_db() { main_of placement.cmd.manage --config-file "$LAB/etc/placement/placement.conf" db sync; }
glance_db() { main_of glance.cmd.manage --config-file "$LAB/etc/glance/glance-api.conf" db_sync; }
neutron_db() {
  "$PY" "$LAB/bin/neutron-db-manage" --config-file "$LAB/etc/neutron/neutron.conf" \
    --config-file "$LAB/etc/neutron/ml2.ini" upgrade head
}
nova_db() {
  local manage=("$PY" "$LAB/bin/nova-manage" --config-file "$LAB/etc/nova/nova.conf")
  "${manage[@]}" api_db sync || return
  "${manage[@]}" cell_v2 map_cell0 --database_connection "$DB/nova_cell0$DB_ARGUMENTS" # fails where it is mapped
  "${manage[@]}" cell_v2 list_cells | grep -q cell1 ||
    "${manage[@]}" cell_v2 create_cell --name cell1 --verbose || return
  "${manage[@]}" db sync
}

schema_once() { [ -e "$LAB/state/$1-db" ] || { "$1_db" && touch "$LAB/state/$1-db"; }; }

schemas() { # side by side
  export PYTHONWARNINGS=ignore
  local jobs=() name
  for name in keystone nova neutron glance placement; do
    schema_once "$name" >"$LAB/log/$name-db.log" 2>&1 &
    jobs+=($!)
  done
  wait "${jobs[@]}"
  for name in keystone nova neutron glance placement; do
    [ -e "$LAB/state/$name-db" ] || die "$name schema, see $LAB/log/$name-db.log"
  done
}

up_service() { # start one and wait until it answers
  start "$1"
  case $1 in
    mariadb) wait_for mariadb 60 sql -e 'select 1' ;;
    nova-conductor | nova-scheduler | nova-compute) ;;
    epmd | rabbitmq) wait_for "$1" 90 port_open "$(port_of "$1")" ;;
    *) wait_for "$1" 120 http_up "$(port_of "$1")" ;;
  esac
}

seed() {
  rm -f "$LAB/faults.json"
  PYTHONWARNINGS=ignore PYTHONDONTWRITEBYTECODE=1 "$PY" "$HERE/seed.py" "$@" 2>>"$LAB/log/seed.log" || {
    tail -n 5 "$LAB/log/seed.log" >&2
    return 1
  }
}

up() {
  local service
  install_packages
  log 'packages present'
  configure
  databases
  start epmd
  sleep 0.3
  start rabbitmq
  log 'mariadb up, rabbitmq starting'
  schemas
  log 'schemas present'
  wait_for rabbitmq 90 port_open "$P_RABBIT"
  log 'rabbitmq up'
  up_service keystone
  log 'keystone up'
  seed identity || die 'seeding keystone failed' # the other services log in with users made here
  for service in placement glance neutron-server nova-conductor nova-scheduler nova-compute nova-api nova-api-r2; do
    start "$service"
  done
  for service in placement glance neutron-server nova-api nova-api-r2; do
    up_service "$service"
    log "$service up"
  done
}

mkdir -p "$LAB"/{etc,log,run,state,data,pkg}
case ${1:-all} in
  install)
    install_packages
    exit
    ;;
  configure) # after a change of a knob, before `start`
    configure
    exit
    ;;
  start)
    shift
    [ $# -gt 0 ] || die 'start what?'
    for service in "$@"; do
      up_service "$service"
      log "$service up"
    done
    exit
    ;;
  seed) ;;
  all) up ;;
  *) die 'usage: openstack-up.sh [install|configure|start NAME...|seed]' ;;
esac
seed || die 'seeding failed'
log 'seeded'
echo "clouds.yaml: $LAB/clouds.yaml"
