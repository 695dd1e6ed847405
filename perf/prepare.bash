# What the scripts in this folder need. Sourced, not run.

# A user's PATH may lack the folder of danted, a service's the one of cargo.
export PATH="$PATH:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"

# A program, or a module of Python's, and the Debian package that has it.
declare -rA PACKAGES=(
    [danted]=dante-server
    [gssapi]=python3-gssapi
    [haproxy]=haproxy
    [kadmin.local]=krb5-admin-server
    [kdb5_util]=krb5-kdc
    [kinit]=krb5-user
    [krb5kdc]=krb5-kdc
    [microsocks]=microsocks
    [strace]=strace
    [taskset]=util-linux
    [unshare]=util-linux
)

# What apt's scripts ask before they start a service.
readonly SERVICE_POLICY=/usr/sbin/policy-rc.d

our_service_policy=

need_programs() {
    local missing
    mapfile -t missing < <(packages_missing "$@")
    if ((${#missing[@]} == 0)); then
        return
    fi
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        printf 'missing here, install them or run this as root on Debian: %s\n' "${missing[*]}" >&2
        return 1
    fi
    trap remove_service_policy EXIT
    install_packages "${missing[@]}"
    remove_service_policy
    trap - EXIT
    mapfile -t missing < <(packages_missing "$@")
    if ((${#missing[@]} > 0)); then
        printf 'installed, yet their programs are not found: %s\n' "${missing[*]}" >&2
        return 1
    fi
}

packages_missing() {
    local program
    for program in "$@"; do
        if ! has "$program"; then
            printf '%s\n' "${PACKAGES[$program]}"
        fi
    done | sort -u
}

has() {
    case $1 in
        # The system's Python is the one that Debian's packages belong to.
        gssapi) /usr/bin/python3 -c 'import gssapi' 2>/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

# The services that come with them are not to run, now or after the next boot.
install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    local apt=(apt-get -o DPkg::Lock::Timeout=300 -qq) package
    if [[ ! -e $SERVICE_POLICY ]]; then
        our_service_policy=$SERVICE_POLICY
        printf '#!/bin/sh\nexit 101\n' >"$SERVICE_POLICY"
        chmod 755 "$SERVICE_POLICY"
    fi
    "${apt[@]}" update
    "${apt[@]}" install -y --no-install-recommends "$@"
    for package in "$@"; do
        case $package in
            dante-server) update-rc.d danted disable ;;
            haproxy | krb5-admin-server | krb5-kdc | microsocks) update-rc.d "$package" disable ;;
        esac
    done
}

remove_service_policy() {
    [[ -z $our_service_policy ]] || rm -f "$our_service_policy"
    our_service_policy=
}

release_folder() {
    printf '%s/release\n' "${CARGO_TARGET_DIR:-target}"
}
