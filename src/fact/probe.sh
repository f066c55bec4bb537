# The probe of `harden`: answers queries about this node and changes nothing.
#
# stdin:   harden-probe 1 NONCE, then a query a line (file PATH, stat PATH, dir PATH, below PATH,
#          owners PATH, account NAME, process NAME, log NAME, journal UNIT, config PATH, unit UNIT,
#          encryption PATH, certificates PATH, stored PREFIX), then end.
# stdout:  harden-probe-begin NONCE, then per query INDEX value, INDEX absent or
#          INDEX unreadable REASON; a value is followed by its data and INDEX end STATUS;
#          then harden-probe-end NONCE COUNT.
#
# It must run under dash, BusyBox ash and bash. Bytes that a node chose (content, names, command
# lines) travel as hexadecimal digits, so that none of them can pass for a line of this protocol.

set -fu
LC_ALL=C
PATH=${PATH:-/bin}:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
newline='
'
IFS=" 	$newline"
format='%f:%s:%u:%g:%U:%G'

answer() {
    printf '%s %s\n' "$index" "$*"
}

# A reason is one line, whatever a program wrote.
unreadable() {
    answer unreadable "${1%%"$newline"*}"
}

# there PATH: puts the metadata into $meta. Only the two errors that mean "no such name" make a path
# absent (1); a parent that cannot be searched does not (2).
there() {
    meta=$(stat -c "$format" "$1" 2>&1) && return 0
    case $meta in
        *': No such file or directory' | *': Not a directory') return 1 ;;
        *) return 2 ;;
    esac
}

# look PATH: puts the metadata into $meta, or answers why there is none.
look() {
    there "$1"
    case $? in
        0) return 0 ;;
        1) answer absent ;;
        *) unreadable "it cannot be looked at: ${meta##*: }" ;;
    esac
    return 1
}

query_stat() {
    look "$1" || return 0
    answer value "$meta"
    answer end 0
}

# Nothing but a regular file is opened: opening a FIFO would wait for ever.
query_file() {
    look "$1" || return 0
    size=${meta#*:}
    size=${size%%:*}
    if [ -L "$1" ]; then
        unreadable 'it is a symbolic link'
    elif [ -d "$1" ]; then
        unreadable 'it is a directory'
    elif [ ! -f "$1" ]; then
        unreadable 'it is neither a file nor a directory'
    elif [ "$size" -gt 1048576 ]; then
        unreadable 'it is larger than 1048576 bytes'
    elif [ ! -r "$1" ]; then
        unreadable 'Permission denied'
    else
        (
            answer value "$meta"
            od -An -v -tx1 -N 1048577
            answer end "$?"
        ) <"$1" || unreadable 'it cannot be opened'
    fi
}

# entries PATH...: one line each, p NAME META or x HEX META, named as they are below $base. The paths
# are what a pattern became; one path that does not exist is a pattern that matched nothing.
entries() {
    [ $# -gt 1 ] || [ -e "$1" ] || [ -L "$1" ] || return 0
    [ $# -le 4096 ] || return 2
    metas=$(stat -c "$format" "$@" 2>/dev/null) || return 1
    printf '%s\n' "$metas" | while IFS= read -r meta; do
        name=${1#"$base"/}
        case $name in
            *[!A-Za-z0-9._@%+=:,/-]*)
                printf 'x %s %s\n' "$(printf %s $(printf %s "$name" | od -An -v -tx1))" "$meta"
                ;;
            *) printf 'p %s %s\n' "$name" "$meta" ;;
        esac
        shift
    done
}

# listed PATH: whether it is a directory whose entries can be looked at; answers why it is not.
listed() {
    look "$1" || return 1
    if [ -L "$1" ]; then
        unreadable 'it is a symbolic link'
    elif [ ! -d "$1" ]; then
        unreadable 'it is not a directory'
    elif [ ! -r "$1" ] || [ ! -x "$1" ]; then
        unreadable 'Permission denied'
    else
        return 0
    fi
    return 1
}

query_dir() {
    listed "$1" || return 0
    base=${1%/}
    for try in 1 2 3; do
        plain=$(set +f && entries "$base"/*) \
            && hidden=$(set +f && entries "$base"/.[!.]*) \
            && dotted=$(set +f && entries "$base"/..?*)
        case $? in
            0)
                answer value
                for part in "$plain" "$hidden" "$dotted"; do
                    [ -z "$part" ] || printf '%s\n' "$part"
                done
                answer end 0
                return 0
                ;;
            2)
                unreadable 'it has more than 4096 entries'
                return 0
                ;;
        esac
    done
    unreadable 'it changes while it is read'
}

# inner: what each directory in $base holds; a symlink to one is not followed.
inner() {
    set +f
    for sub in "$base"/* "$base"/.[!.]* "$base"/..?*; do
        [ -d "$sub" ] && [ ! -L "$sub" ] || continue
        [ -r "$sub" ] && [ -x "$sub" ] || return 3
        entries "$sub"/* && entries "$sub"/.[!.]* && entries "$sub"/..?* || return
    done
}

query_below() {
    listed "$1" || return 0
    base=${1%/}
    for try in 1 2 3; do
        all=$(inner)
        case $? in
            0)
                if [ "$(printf '%s' "$all" | wc -l)" -ge 4096 ]; then
                    unreadable 'it has more than 4096 entries'
                    return 0
                fi
                answer value
                [ -z "$all" ] || printf '%s\n' "$all"
                answer end 0
                return 0
                ;;
            2)
                unreadable 'it has more than 4096 entries'
                return 0
                ;;
            3)
                unreadable 'Permission denied'
                return 0
                ;;
        esac
    done
    unreadable 'it changes while it is read'
}

# What is written there meanwhile may be gone between two looks; what find then says is no owner.
query_owners() {
    listed "$1" || return 0
    if [ "$(find "$1" 2>/dev/null | head -n 65537 | wc -l)" -gt 65536 ]; then
        unreadable 'more than 65536 files are in it'
        return 0
    fi
    for try in 1 2 3; do
        owners=$(find "$1" -exec stat -c 'o %u:%g' {} + 2>&1 | sort -u)
        why=$(printf '%s\n' "$owners" | grep -v '^o [0-9]*:[0-9]*$')
        if [ -z "$why" ]; then
            answer value
            printf '%s\n' "$owners"
            answer end 0
            return 0
        fi
    done
    unreadable "$why"
}

# Accounts may come from elsewhere than /etc/passwd, which getent(1) knows; BusyBox may lack it.
query_account() {
    if command -v getent >/dev/null 2>&1; then
        account=$(getent passwd "$1")
        case $? in
            0) ;;
            2)
                answer absent
                return 0
                ;;
            *)
                unreadable 'getent cannot tell'
                return 0
                ;;
        esac
    else
        account=
        while IFS= read -r entry || [ -n "$entry" ]; do
            if [ "${entry%%:*}" = "$1" ]; then
                account=$entry
                break
            fi
        done </etc/passwd
        if [ -z "$account" ]; then
            answer absent
            return 0
        fi
    fi
    account=${account#*:*:}
    uid=${account%%:*}
    account=${account#*:}
    case $uid:${account%%:*} in
        : | :* | *: | *[!0-9:]*) unreadable 'its entry has no numbers' ;;
        *)
            answer value "$uid:${account%%:*}"
            answer end 0
            ;;
    esac
}

# started DIR: field 22 of /proc/PID/stat. The name in field 2 may hold spaces and parentheses, so
# the fields are counted from the last one.
started() {
    fields=$(cat "$1/stat" 2>/dev/null) || return 1
    set -- ${fields##*") "}
    [ $# -ge 20 ] || return 1
    shift 19
    printf %s "$1"
}

# A process counts by its name and only in the network namespace of process 1. What costs a fork is
# done for the few whose short name fits. Whether argv[0] fits too is judged by the reader.
query_process() {
    if ! home=$(readlink /proc/1/ns/net 2>/dev/null) || [ -z "$home" ]; then
        unreadable 'the network namespace of process 1 cannot be read without root'
        return 0
    fi
    short=$(printf %.15s "$1")
    found=
    count=0
    set +f
    set -- /proc/[0-9]*
    set -f
    for dir in "$@"; do
        { IFS= read -r comm <"$dir/comm"; } 2>/dev/null || continue
        [ "$comm" = "$short" ] || continue
        net=$(readlink "$dir/ns/net" 2>/dev/null) || net=
        [ -z "$net" ] || [ "$net" = "$home" ] || continue
        before=$(started "$dir") || continue
        argv=$(cat "$dir/cmdline" 2>/dev/null | od -An -v -tx1 -N 131073)
        # A zombie and a kernel thread have none.
        [ -n "$argv" ] || continue
        # The number may have gone to another process meanwhile.
        [ "$(started "$dir")" = "$before" ] || continue
        if [ -z "$net" ]; then
            unreadable "the network namespace of process ${dir#/proc/} cannot be read"
            return 0
        fi
        count=$((count + 1))
        if [ "$count" -gt 64 ]; then
            unreadable 'more than 64 processes have this name'
            return 0
        fi
        found="${found}t ${dir#/proc/} $before$newline$argv$newline"
    done
    if [ "$count" -eq 0 ]; then
        answer absent
    else
        answer value
        printf %s "$found"
        answer end 0
    fi
}

query_log() {
    look /var/log/pods || return 0
    newest=
    for dir in $(set +f && printf '%s\n' /var/log/pods /var/log/pods/kube-system_"$1"-*); do
        [ -e "$dir" ] || continue
        if [ ! -r "$dir" ] || [ ! -x "$dir" ]; then
            unreadable 'Permission denied'
            return 0
        fi
    done
    set +f
    set -- /var/log/pods/kube-system_"$1"-*/"$1"/*.log
    set -f
    for log in "$@"; do
        [ -f "$log" ] && [ ! -L "$log" ] || continue
        if [ -z "$newest" ] || [ "$log" -nt "$newest" ]; then
            newest=$log
        fi
    done
    if [ -z "$newest" ]; then
        answer absent
    elif [ ! -r "$newest" ]; then
        unreadable 'Permission denied'
    else
        (
            answer value
            tail -c 8193 | od -An -v -tx1
            answer end "$?"
        ) <"$newest" || unreadable 'it cannot be opened'
    fi
}

# What a unit of systemd logged; the name is bounded by the queries' own check.
query_journal() {
    if ! command -v journalctl >/dev/null 2>&1; then
        answer absent
        return 0
    fi
    answer value
    journalctl --quiet --no-pager --output=cat --lines=40 --unit="$1" 2>/dev/null | tail -c 8193 | od -An -v -tx1
    answer end 0
}

# A configuration and its drop-ins, as k3s reads them: hidden ones too, and whatever their case. A part
# of it that cannot be read makes all of it unreadable, since a later file can undo an earlier one.
query_config() {
    for path in "$1" "$1.d"; do
        there "$path"
        if [ $? -eq 2 ]; then
            unreadable "it cannot be looked at: ${meta##*: }"
            return 0
        fi
    done
    set +f
    set -- "$1" "$1".d/* "$1".d/.[!.]* "$1".d/..?*
    set -f
    if [ -e "${1}.d" ] && { [ ! -r "${1}.d" ] || [ ! -x "${1}.d" ]; }; then
        unreadable "${1}.d: Permission denied"
        return 0
    fi
    main=$1
    count=0
    for path in "$@"; do
        [ -e "$path" ] || [ -L "$path" ] || continue
        if [ "$path" != "$main" ]; then
            case $path in
                *.[yY][aA][mM][lL] | *.[yY][mM][lL]) ;;
                *) continue ;;
            esac
            [ ! -d "$path" ] || [ -L "$path" ] || continue
        fi
        why=
        meta=$(stat -c "$format" "$path" 2>/dev/null) || why='it cannot be looked at'
        size=${meta#*:}
        size=${size%%:*}
        if [ -n "$why" ]; then
            :
        elif [ -L "$path" ]; then
            # What it leads to may change without it.
            why='it is a symbolic link'
        elif [ ! -f "$path" ]; then
            why='it is no regular file'
        elif [ ! -r "$path" ]; then
            why='Permission denied'
        elif [ "$size" -gt 131072 ]; then
            why='it is larger than 131072 bytes'
        fi
        if [ -n "$why" ]; then
            unreadable "$(printf %s "$path" | tr -c 'A-Za-z0-9._@%+=:,/-' '?'): $why"
            return 0
        fi
        count=$((count + 1))
    done
    if [ "$count" -eq 0 ]; then
        answer absent
        return 0
    fi
    if [ "$count" -gt 64 ]; then
        unreadable 'it has more than 64 files'
        return 0
    fi
    answer value
    status=0
    for path in "$@"; do
        [ -f "$path" ] || continue
        name=-
        form=m
        if [ "$path" != "$main" ]; then
            case $path in
                *.[yY][aA][mM][lL] | *.[yY][mM][lL]) ;;
                *) continue ;;
            esac
            form=f
            name=$(printf %s $(printf %s "${path##*/}" | od -An -v -tx1))
        fi
        meta=$(stat -c "$format" "$path" 2>/dev/null) || status=1
        printf '%s %s %s\n' "$form" "$name" "$meta"
        od -An -v -tx1 -N 131073 <"$path" || status=1
    done
    answer end "$status"
}

# What systemd says of a unit; of its environment only which configuration is named there.
# A unit of harden's own is a timer, of others a service.
query_unit() {
    case $1 in
        harden-*) unit=$1.timer ;;
        *) unit=$1.service ;;
    esac
    if ! command -v systemctl >/dev/null 2>&1; then
        unreadable 'this node has no systemd'
        return 0
    fi
    if ! shown=$(systemctl show --no-pager \
        --property=LoadState,ActiveState,MainPID,NRestarts,ExecStart "$unit" 2>/dev/null); then
        unreadable 'systemctl cannot tell'
        return 0
    fi
    pid=$(printf '%s\n' "$shown" | sed -n 's/^MainPID=//p')
    case $pid in
        '' | 0 | *[!0-9]*) more= ;;
        *)
            more="MainStart=$(started "/proc/$pid")$newline$(
                tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep '^[A-Z0-9]*_CONFIG_FILE='
            )"
            ;;
    esac
    answer value
    printf '%s\n%s\n' "$shown" "$more" | od -An -v -tx1 -N 65537
    answer end 0
}

# unquoted TEXT: puts a scalar of YAML into $text, without the quotes around it.
unquoted() {
    text=$1
    case $text in
        \"*\" | \'*\')
            text=${text#?}
            text=${text%?}
            ;;
    esac
}

# What an EncryptionConfiguration says, and of `secret` nothing but that it is there: a line is passed
# on only where it is known to hold no key. Whatever is written in another way is not understood.
query_encryption() {
    look "$1" || return 0
    size=${meta#*:}
    size=${size%%:*}
    if [ -L "$1" ] || [ ! -f "$1" ]; then
        unreadable 'it is no regular file'
        return 0
    elif [ "$size" -gt 131072 ]; then
        unreadable 'it is larger than 131072 bytes'
        return 0
    elif [ ! -r "$1" ]; then
        unreadable 'Permission denied'
        return 0
    fi
    sum=$(sha256sum <"$1" 2>/dev/null)
    sum=${sum%% *}
    written=$(stat -c %Y "$1" 2>/dev/null)
    case $sum:$written in
        : | :* | *: | *[!0-9a-f:]*)
            unreadable 'it cannot be read'
            return 0
            ;;
    esac
    found=
    at=
    provider=
    bad=
    count=0
    while IFS= read -r text || [ -n "$text" ]; do
        count=$((count + 1))
        text=${text#"${text%%[! ]*}"}
        text=${text%"${text##*[! ]}"}
        item=
        case $text in
            '' | '#'* | ---) continue ;;
            '- '*)
                item=-
                text=${text#- }
                text=${text#"${text%%[! ]*}"}
                ;;
        esac
        case $item$text in
            'apiVersion: '*)
                unquoted "${text#apiVersion: }"
                case $at:$provider:$text in
                    *:apiserver.config.k8s.io/v1 | provider:kms:v1 | provider:kms:v2) ;;
                    *) bad=$count ;;
                esac
                ;;
            'kind: '*)
                unquoted "${text#kind: }"
                [ "$text" = EncryptionConfiguration ] || bad=$count
                ;;
            'resources:')
                if [ -z "$at" ]; then at=groups; else at=resources; fi
                ;;
            '-resources:' | '-providers:')
                [ -n "$at" ] || bad=$count
                found="${found}g$newline"
                at=${text%:}
                ;;
            'providers:') at=providers ;;
            '-identity: {}') found="${found}i$newline" at=providers ;;
            '-secretbox:' | '-aescbc:' | '-aesgcm:' | '-kms:')
                provider=${text%:}
                at=provider
                ;;
            'keys:') if [ "$at" = provider ] && [ "$provider" != kms ]; then at=keys; else bad=$count; fi ;;
            'name: '* | '-name: '*)
                unquoted "${text#name: }"
                case $at$item:$provider:$text in
                    *:*:*[!A-Za-z0-9._-]*) bad=$count ;;
                    keys*:*:?* | provider:kms:?*) found="${found}k $provider $text$newline" ;;
                    *) bad=$count ;;
                esac
                ;;
            'secret: '* | '-secret: '*)
                unquoted "${text#secret: }"
                case $at:$text in
                    keys:*[!A-Za-z0-9+/=]*) bad=$count ;;
                    keys:?*) ;;
                    *) bad=$count ;;
                esac
                ;;
            'endpoint: '* | 'cachesize: '* | 'timeout: '*)
                if [ "$at" != provider ] || [ "$provider" != kms ]; then bad=$count; fi
                ;;
            -*)
                unquoted "$text"
                case $at:$text in
                    resources:*[!a-z0-9.*-]*) bad=$count ;;
                    resources:?*) found="${found}r $text$newline" ;;
                    *) bad=$count ;;
                esac
                ;;
            *) bad=$count ;;
        esac
        [ -z "$bad" ] || break
    done <"$1"
    text=
    again=$(sha256sum <"$1" 2>/dev/null)
    if [ "${again%% *}" != "$sum" ]; then
        unreadable 'it changes while it is read'
    elif [ -n "$bad" ]; then
        unreadable "line $bad is not in the plain block style that harden reads without seeing the keys"
    else
        answer value "$meta"
        printf 'h %s %s\n%s' "$sum" "$written" "$found"
        answer end 0
    fi
}

# pem_lines: of what comes in PEM the certificates, and of whatever else is in it nothing.
pem_lines() {
    inside=
    while IFS= read -r text || [ -n "$text" ]; do
        case $text in
            '-----BEGIN CERTIFICATE-----')
                inside=1
                echo b
                ;;
            *[!A-Za-z0-9+/=]* | '') inside= ;;
            *) [ -z "$inside" ] || printf 'c %s\n' "$text" ;;
        esac
    done
    text=
}

query_certificates() {
    look "$1" || return 0
    size=$(stat -L -c %s "$1" 2>/dev/null)
    if [ ! -f "$1" ] || [ -z "$size" ]; then
        unreadable 'it is no regular file, and leads to none'
    elif [ "$size" -gt 131072 ]; then
        unreadable 'it is larger than 131072 bytes'
    elif [ ! -r "$1" ]; then
        unreadable 'Permission denied'
    else
        answer value
        printf 'd %s\n' "$(date +%s)"
        found=$(pem_lines <"$1")
        [ -n "$found" ] || found=$(sed -n 's/^ *client-certificate-data: *"\{0,1\}\([A-Za-z0-9+\/=]*\)"\{0,1\} *$/\1/p' "$1" \
            | head -n 1 | base64 -d 2>/dev/null | pem_lines)
        [ -z "$found" ] || printf '%s\n' "$found"
        answer end 0
    fi
}

# etcd_process: puts the id of this node's etcd into $pid; 1 where there is none, 2 where nobody knows. Its
# program is run from where it has it, so a name is not enough: it sees the node's own directory of keys.
etcd_process() {
    keys=$(stat -c %d:%i "$pki" 2>/dev/null)
    home=$(readlink /proc/1/ns/net 2>/dev/null) && [ -n "$home" ] || return 2
    set +f
    set -- /proc/[0-9]*
    set -f
    for dir in "$@"; do
        { IFS= read -r comm <"$dir/comm"; } 2>/dev/null || continue
        [ "$comm" = etcd ] || continue
        net=$(readlink "$dir/ns/net" 2>/dev/null) && [ -n "$net" ] || return 2
        [ "$net" = "$home" ] || continue
        [ "$(stat -c %d:%i "$dir/root$pki" 2>/dev/null)" = "$keys" ] || continue
        pid=${dir#/proc/}
        return 0
    done
    return 1
}

# stored_page FROM TO: lines `K KEY` and `V VALUE`, both in base64, of at most 200 objects; `H` first.
# The value is cut: what counts are its first bytes.
stored_page() {
    "$etcdctl" --endpoints=https://127.0.0.1:2379 --command-timeout=30s \
        --cacert="$pki/ca.crt" --cert="$pki/healthcheck-client.crt" --key="$pki/healthcheck-client.key" \
        get "$1" "$2" --limit=200 --write-out=json 2>/dev/null | tr ',' '\n' | sed -n \
        -e 's/^.*"header":.*$/H/p' \
        -e 's/^.*"key":"\([A-Za-z0-9+/=]*\)".*$/K \1/p' \
        -e 's/^"value":"\([A-Za-z0-9+/=]*\)".*$/V \1/p' | cut -c 1-1500
}

# Each value becomes just 120 bytes, and so a line of its own.
stored_forms() {
    fill=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
    sed -n -e 's/^V //p' | sed -e 's/=*$//' -e "s/\$/$fill$fill$fill$fill/" -e 's/^\(.\{160\}\).*/\1/' \
        | tr -d '\n' | base64 -d | tr -c 'A-Za-z0-9._:{-' '?' | fold -b -w 120 | sed \
        -e 's/^k8s:enc:\([a-z]*\):v[0-9]:\([A-Za-z0-9._-]\{1,63\}\):.*/e \1 \2/' -e t \
        -e 's/^k8s?.*/c/' -e t -e 's/^{.*/c/' -e t -e 's/.*/o/' \
        | sort | uniq -c | while read -r count form; do
        printf '%s %s\n' "$form" "$count"
    done
}

# In which forms the objects below a prefix lie in the etcd of this node. etcdctl is that of etcd's own
# image, where the node has none. It asks with the certificate of kubeadm's own health check.
query_stored() {
    pki=/etc/kubernetes/pki/etcd
    etcd_process
    case $? in
        0) ;;
        1)
            answer absent
            return 0
            ;;
        *)
            unreadable 'the network namespaces of processes cannot be read without root'
            return 0
            ;;
    esac
    etcdctl=/proc/$pid/root/usr/local/bin/etcdctl
    if [ ! -x "$etcdctl" ] && ! etcdctl=$(command -v etcdctl); then
        unreadable "etcdctl is neither in etcd's image nor on the node"
        return 0
    fi
    if [ ! -r "$pki/healthcheck-client.key" ]; then
        unreadable "$pki/healthcheck-client.key is not there or not readable"
        return 0
    fi
    from=$1
    found=
    total=0
    while :; do
        page=$(stored_page "$from" "${1%/}0")
        case $page in
            H*) ;;
            *)
                unreadable 'etcd gave no answer'
                return 0
                ;;
        esac
        count=$(printf '%s\n' "$page" | grep -c '^K ')
        [ "$count" -gt 0 ] || break
        total=$((total + count))
        forms=$(printf '%s\n' "$page" | stored_forms)
        [ -z "$forms" ] || found="$found$forms$newline"
        values=$(printf '%s\n' "$page" | grep -c '^V ')
        [ "$values" -ge "$count" ] || found="${found}o $((count - values))$newline"
        [ "$count" -ge 200 ] || break
        last=$(printf '%s\n' "$page" | sed -n -e 's/^K //p' | tail -n 1 | base64 -d)
        # The first name that can follow: no key of Kubernetes' has a character below this one.
        case $last in
            *[!A-Za-z0-9._:/-]* | '')
                unreadable 'a key in etcd has characters that Kubernetes does not use'
                return 0
                ;;
            "$1"*) from="$last!" ;;
            *)
                unreadable 'etcd gave keys that were not asked for'
                return 0
                ;;
        esac
    done
    answer value
    printf 't %s\n%s' "$total" "$found"
    answer end 0
}

# Programs must not eat the queries.
exec 3<&0 </dev/null
IFS= read -r line <&3 || exit 3
case $line in
    'harden-probe 1 '*) nonce=${line#harden-probe 1 } ;;
    *) exit 3 ;;
esac
case $nonce in
    '' | *[!0-9A-Za-z]*) exit 3 ;;
esac

# The empty line ends whatever a login script may have left unfinished.
printf '\nharden-probe-begin %s\n' "$nonce"
index=0
while IFS= read -r line <&3; do
    case $line in
        'file /'*) query_file "${line#file }" ;;
        'stat /'*) query_stat "${line#stat }" ;;
        'dir /'*) query_dir "${line#dir }" ;;
        'below /'*) query_below "${line#below }" ;;
        'owners /'*) query_owners "${line#owners }" ;;
        'account '*[!a-z0-9_-]*) exit 3 ;;
        'account '[a-z_]*) query_account "${line#account }" ;;
        'process '[a-z0-9-]*) query_process "${line#process }" ;;
        'log '[a-z0-9-]*) query_log "${line#log }" ;;
        'journal '[a-z0-9-]*) query_journal "${line#journal }" ;;
        'config /'*) query_config "${line#config }" ;;
        'unit '[a-z0-9-]*) query_unit "${line#unit }" ;;
        'encryption /'*) query_encryption "${line#encryption }" ;;
        'certificates /'*) query_certificates "${line#certificates }" ;;
        'stored '*[!a-z0-9./-]*) exit 3 ;;
        'stored /'*/) query_stored "${line#stored }" ;;
        end)
            printf 'harden-probe-end %s %s\n' "$nonce" "$index"
            exit 0
            ;;
        *) exit 3 ;;
    esac
    index=$((index + 1))
done
exit 3
