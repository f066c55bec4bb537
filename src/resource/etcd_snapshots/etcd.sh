# harden: etcd's data on a node. Runs as root, as `sh -c THIS harden`; POSIX sh, dash and BusyBox.
#
# As with transactions, what to do is data on stdin:
#   harden-etcd 1 NONCE VERB ARGUMENT...
# and the answer stands between `harden-begin NONCE` and `harden-end NONCE`; a failure is a line
# `error CODE MESSAGE`.
#
# A snapshot is a directory snapshots/TIME/ with `db` and `info`, renamed into place once it is verified. Only
# such directories are ever removed here. A restore lies in restore/; its `state` is one of
#   prepared   the new data lies beside the old; nothing is changed
#   stopping   the manifests of the control plane are taken away, and it ends
#   swapping   the old data goes aside, and the new takes its place
#   starting   the manifests come back
#   waiting    it runs with the new data, until `commit` or the deadline
#   committed  it stays
#   reverting  the old data comes back, and the new goes aside
#   reverted   it is back
# Data on which etcd may have run is never removed here: it becomes member.before-TIME or member.undone-TIME.

set -u
umask 077
LC_ALL=C
PATH="${PATH:-}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export LC_ALL PATH

home=/var/lib/harden
store=$home/etcd
manifests=/etc/kubernetes/manifests
pki=/etc/kubernetes/pki/etcd
nonce=
work=
newline='
'

# ---------------------------------------------------------------------------- answers

finish() {
    [ -z "$work" ] || rm -rf "$work"
    [ -z "$nonce" ] || printf 'harden-end %s\n' "$nonce"
    exit "$1"
}

fail() { # CODE MESSAGE
    if [ -z "$nonce" ]; then
        printf '%s\n' "$2" >&2
    else
        printf 'error %s %s\n' "$1" "$(printf '%s' "$2" | tr '\n' ' ' | cut -c 1-600)"
    fi
    finish 1
}

digits() {
    case $1 in '' | *[!0-9]*) fail input "$1 is no number" ;; esac
}

line() { # reads one line of stdin into $line
    IFS= read -r line || fail input 'a line is missing'
}

fsync() { # old versions of sync know no files
    sync "$@" 2>/dev/null || sync
}

sum() {
    sha256sum <"$1" | cut -d ' ' -f 1
}

first_line() { # FILE
    text=
    { IFS= read -r text <"$1"; } 2>/dev/null
    printf '%s' "$text"
}

put() { # FILE: content from stdin, whole or not at all
    cat >"$1.$$" && fsync "$1.$$" && mv -f "$1.$$" "$1" && fsync "${1%/*}"
}

started() { # PID: when it started; the name in the second field may hold anything
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
}

last_words() { # FILE: the end of what a program complained of; etcd's tools log as JSON
    grep -v '"level":"info"' "$1" 2>/dev/null | tail -n 3 | tr '\n' ' ' | cut -c 1-400
}

# ---------------------------------------------------------------------------- the member of this node

data_of() { # PID: what it was started with
    tr '\0' '\n' 2>/dev/null <"/proc/$1/cmdline" | sed -n 's/^--data-dir=//p' | tail -n 1
}

genuine() { # PID: whether its database is the node's own; else what lies in its root is a stranger's program
    database=$(data_of "$1")/member/snap/db
    here=$(stat -c %d:%i "$database" 2>/dev/null) &&
        [ "$(stat -c %d:%i "/proc/$1/root$database" 2>/dev/null)" = "$here" ]
}

process() { # COMM: puts the id of that program of this node into $pid; 1 where it does not run
    own=$(readlink /proc/1/ns/net 2>/dev/null)
    for program in /proc/[0-9]*; do
        { IFS= read -r comm <"$program/comm"; } 2>/dev/null || continue
        [ "$comm" = "$1" ] || continue
        # A tenant's pod may call its program the same.
        [ "$(readlink "$program/ns/net" 2>/dev/null)" = "$own" ] || continue
        pid=${program#/proc/}
        [ "$1" = etcd ] && ! genuine "$pid" || return 0
    done
    pid=
    return 1
}

tool() { # NAME: sets $tool to etcd's own program: of the running image, of the node, or kept with a snapshot
    tool=/proc/${pid:-none}/root/usr/local/bin/$1
    [ ! -x "$tool" ] || return 0
    ! tool=$(command -v "$1") || return 0
    # Never from an image that is only unpacked here: it may be anybody's.
    tool=$store/$1
    [ ! -f "$tool" ] || [ -L "$tool" ] || [ ! -x "$tool" ] || return 0
    fail etcd "$1 is neither in the image of an etcd that runs, nor on the node, nor kept with a snapshot; put it into /usr/local/bin of the node"
}

keep_tool() { # etcdutl, for the day on which no etcd runs that has it
    # One that a killed run has not made executable yet is of no use on that day.
    [ ! -x "$store/etcdutl" ] || [ "$(sum "$store/etcdutl")" != "$(sum "$etcdutl")" ] || return 0
    put "$store/etcdutl" <"$etcdutl" && chmod 0700 "$store/etcdutl"
}

member() { # finds the running member: $pid, $etcdctl, $etcdutl, $data (as this script sees it)
    process etcd || fail etcd 'no etcd runs on this node'
    tool etcdctl
    etcdctl=$tool
    tool etcdutl
    etcdutl=$tool
    data=$(data_of "$pid")
    case $data in
    /*) ;;
    *) fail etcd 'etcd was started without --data-dir=' ;;
    esac
    data=/proc/$pid/root$data
    [ -r "$pki/healthcheck-client.key" ] ||
        fail etcd "$pki/healthcheck-client.key is not there: it is the certificate by which kubeadm asks etcd"
}

ask() { # ARGUMENT...: etcdctl, at the member of this node
    "$etcdctl" --endpoints=https://127.0.0.1:2379 --cacert="$pki/ca.crt" \
        --cert="$pki/healthcheck-client.crt" --key="$pki/healthcheck-client.key" "$@"
}

number_of() { # NAME JSON: the number that stands behind a name
    printf '%s' "$2" | sed -n "s/.*\"$1\":\\(-\\{0,1\\}[0-9][0-9]*\\).*/\\1/p" | head -n 1
}

look() { # sets $revision, $size and $used of the member
    said=$(ask --command-timeout=30s endpoint status --write-out=json 2>&1) ||
        fail etcd "etcd does not answer: $said"
    revision=$(number_of revision "$said")
    size=$(number_of dbSize "$said")
    used=$(number_of dbSizeInUse "$said")
    case $revision:$size:$used in
    *[!0-9:]* | :* | *::* | *:) fail etcd 'etcd says nothing of its revision and size' ;;
    esac
}

room() { # DIRECTORY BYTES
    free=$(df -P -k "$1" 2>/dev/null | sed -n '2s/^.* \([0-9][0-9]*\)  *[0-9]*%.*/\1/p')
    case $free in '' | *[!0-9]*) fail unwritable "the free space of $1 cannot be told" ;; esac
    wanted=$(($2 / 1048576 + 1))
    [ "$((free / 1024))" -ge "$wanted" ] ||
        fail unwritable "$1 has $((free / 1024)) MiB free, and $wanted MiB are needed; nothing was written"
}

# ---------------------------------------------------------------------------- snapshots

make_store() {
    [ ! -L "$home" ] && [ ! -L "$store" ] || fail unwritable "$store is a symbolic link"
    why=$( (mkdir -p "$store/snapshots" && chmod 0700 "$home" "$store" "$store/snapshots") 2>&1) ||
        fail unwritable "$why"
    # What a run that was killed had left.
    for old in "$store"/.new.*; do
        [ -d "$old" ] || continue
        owner=$(first_line "$old/runs")
        if [ -z "$owner" ] || [ "$(started "${owner%% *}")" != "${owner#* }" ]; then
            rm -rf "$old"
        fi
    done
}

named() { # NAME: whether it can be a snapshot's
    case $1 in
    [0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]T[0-9][0-9][0-9][0-9][0-9][0-9]Z) ;;
    *) return 1 ;;
    esac
}

noted() { # DIRECTORY KEY: what `info` says
    sed -n "s/^$2 //p" "$1/info" 2>/dev/null | head -n 1
}

ours() { # DIRECTORY: whether it is a snapshot that was made here
    named "${1##*/}" && [ -d "$1" ] && [ ! -L "$1" ] && [ "$(first_line "$1/info")" = 'harden-snapshot 1' ]
}

verb_snapshot() { # KEEP asked|apply|encryption|schedule|restore
    digits "$1"
    case $2 in asked | apply | encryption | schedule | restore) ;; *) fail input "$2" ;; esac
    member
    make_store
    look
    before=$revision
    # The copy, that what is opened of it, and the write-ahead log that it then gets, twice 64 MB.
    room "$store" "$((size * 2 + 201326592))"
    work=$store/.new.$$
    why=$( (rm -rf "$work" && mkdir -m 0700 "$work" && printf '%s %s\n' "$$" "$(started $$)" >"$work/runs") 2>&1) ||
        fail unwritable "$why"
    ask snapshot save "$work/db" >/dev/null 2>"$work/words" ||
        fail etcd "etcd gave no snapshot: $(last_words "$work/words")"
    chmod 0600 "$work/db"
    # The pages are read and counted...
    said=$("$etcdutl" snapshot status "$work/db" --write-out=json 2>"$work/words") ||
        fail etcd "the snapshot is broken: $(last_words "$work/words")"
    hash=$(number_of hash "$said")
    revision=$(number_of revision "$said")
    keys=$(number_of totalKey "$said")
    case $hash:$revision:$keys in
    *[!0-9:]* | :* | *::* | *:) fail etcd 'the snapshot is broken: it has no hash, revision and count' ;;
    esac
    [ "$revision" -ge "$before" ] ||
        fail etcd "the snapshot is of revision $revision, and etcd had $before before it was taken"
    [ "$keys" -gt 0 ] || fail etcd 'the snapshot holds nothing'
    why=$( (keep_tool) 2>&1) || fail unwritable "$why"
    # ... and it is opened as it would be after a disaster, which compares the hash at its end.
    "$etcdutl" snapshot restore "$work/db" --data-dir "$work/opened" >/dev/null 2>"$work/words" ||
        fail etcd "the snapshot cannot be opened: $(last_words "$work/words")"
    [ -s "$work/opened/member/snap/db" ] || fail etcd 'the snapshot cannot be opened: it gave no database'
    rm -rf "$work/opened" "$work/words"
    bytes=$(stat -c %s "$work/db")
    content=$(sum "$work/db")
    version=$(printf '%s' "$said" | sed -n 's/.*"version":"\([0-9.]*\)".*/\1/p')
    why=$( (printf 'harden-snapshot 1\nreason %s\nrevision %s\nhash %s\nkeys %s\nsize %s\nsha256 %s\nversion %s\n' \
        "$2" "$revision" "$hash" "$keys" "$bytes" "$content" "${version:-unknown}" >"$work/info" &&
        rm -f "$work/runs" && fsync "$work/db" "$work/info") 2>&1) || fail unwritable "$why"
    while :; do
        name=$(date -u +%Y%m%dT%H%M%SZ)
        [ -e "$store/snapshots/$name" ] || break
        sleep 1
    done
    mv "$work" "$store/snapshots/$name" || fail unwritable "$store/snapshots/$name"
    work=
    fsync "$store/snapshots"
    keep "$1" "$2" "$name"
    told "$store/snapshots/$name"
}

keep() { # COUNT REASON NAME: the newest of this reason, and first the one of this name, which was taken just
    # now: where the clock went back, others have later names. 0 keeps all. The names sort by time.
    [ "$1" -gt 0 ] || return 0
    count=1
    for entry in $(printf '%s\n' "$store"/snapshots/* | sort -r); do
        ours "$entry" && [ "$(noted "$entry" reason)" = "$2" ] && [ "${entry##*/}" != "$3" ] || continue
        count=$((count + 1))
        [ "$count" -gt "$1" ] || continue
        # Whatever else somebody has put there stays.
        rm -f "$entry/db" "$entry/info" && rmdir "$entry" 2>/dev/null
    done
    return 0
}

told() { # DIRECTORY: one line
    bytes=$(stat -c %s "$1/db" 2>/dev/null)
    state=whole
    [ -f "$1/db" ] && [ ! -L "$1/db" ] && [ "$bytes" = "$(noted "$1" size)" ] || state=broken
    printf 'snapshot %s %s %s %s %s %s %s %s %s\n' "${1##*/}" "$(noted "$1" reason)" "$(noted "$1" revision)" \
        "$(noted "$1" hash)" "$(noted "$1" keys)" "$(noted "$1" size)" "$(noted "$1" sha256)" \
        "$(noted "$1" version)" "$state"
}

verb_list() {
    for entry in "$store"/snapshots/*; do
        ! ours "$entry" || told "$entry"
    done
}

snapshot_of() { # NAME: sets $entry
    named "$1" || fail input "$1 is no name of a snapshot"
    entry=$store/snapshots/$1
    ours "$entry" || fail unknown "there is no snapshot $1"
}

verb_part() { # NAME SKIP COUNT: in MiB
    snapshot_of "$1"
    digits "$2"
    digits "$3"
    dd if="$entry/db" bs=1048576 skip="$2" count="$3" 2>/dev/null || fail unknown "$1 cannot be read"
    printf '\n'
}

# ---------------------------------------------------------------------------- compaction and what lies in clear

verb_member() { # revision, size and bytes in use
    member
    look
    printf '%s %s %s\n' "$revision" "$size" "$used"
}

verb_compact() { # REVISION: what was before it is gone when this ends
    digits "$1"
    member
    said=$(ask --command-timeout=1200s compact "$1" --physical 2>&1) && return 0
    case $said in *'has been compacted'*) return 0 ;; esac
    fail etcd "etcd does not compact: $(printf '%s' "$said" | tail -n 1)"
}

verb_defragment() { # this member serves nothing meanwhile
    member
    look
    # It copies what is in use beside the old.
    room "$data/member/snap" "$((used + 67108864))"
    said=$(ask --command-timeout=1200s defrag 2>&1) || fail etcd "etcd does not defragment: $(printf '%s' "$said" | tail -n 1)"
    look
    printf '%s %s %s\n' "$revision" "$size" "$used"
}

# A key with its value, as a database and as a write-ahead log hold it: what is stored in clear begins with
# `k8s` and a zero, or `{`. Zero and newline are mapped, so that a line is a block. Source: etcd v3.6
# api/mvccpb/kv.proto (KeyValue: key, create_revision, mod_revision, version, value),
# api/etcdserverpb/rpc.proto (PutRequest: key, value), apimachinery v0.35
# pkg/runtime/serializer/protobuf/protobuf.go (protoEncodingPrefix).
pattern() { # PREFIX db|wal
    name=$(printf '%s' "$1" | sed 's/\./[.]/g')'[A-Za-z0-9._:/%@-]*'
    case $2 in
    db) between=$(printf '\020.{3,40}[*].{1,5}') ;;
    wal) between=$(printf '\022.{1,5}') ;;
    esac
    printf '%s%s(k8s\001|[{]")' "$name" "$between"
}

found_in() { # PATTERN FILE SKIP COUNT, in blocks of 4 KiB
    dd if="$2" bs=4096 skip="$3" count="$4" 2>/dev/null | tr '\000\012' '\001\002' |
        grep -a -o -E -e "$1" | grep -a -c ''
}

count_in() { # FILE PATTERN: sets $total. Each match is counted by the window in which it begins.
    total=0
    at=0
    blocks=$((($(stat -c %s "$1") + 4095) / 4096))
    while [ "$at" -lt "$blocks" ]; do
        window=$(found_in "$2" "$1" "$at" 1025)
        beyond=$(found_in "$2" "$1" "$((at + 1024))" 1)
        total=$((total + window - beyond))
        at=$((at + 1024))
    done
}

scan_file() { # KIND NAME FILE db|wal: `file KIND NAME SIZE`, and `clear PREFIX COUNT` for what is found
    [ -f "$3" ] && [ ! -L "$3" ] || return 0
    printf 'file %s %s %s\n' "$1" "$(printf '%s' "$2" | tr -c 'A-Za-z0-9._/-' '?')" "$(stat -c %s "$3")"
    while IFS= read -r prefix; do
        count_in "$3" "$(pattern "$prefix" "$4")"
        [ "$total" -eq 0 ] || printf 'clear %s %s\n' "$prefix" "$total"
    done <<END
$prefixes
END
}

verb_scan() { # prefixes, one a line; then an empty line
    prefixes=
    line
    while [ -n "$line" ]; do
        case $line in
        *[!a-z0-9./-]*) fail input 'no prefix' ;;
        /*/) prefixes="$prefixes${prefixes:+$newline}$line" ;;
        *) fail input 'no prefix' ;;
        esac
        line
    done
    [ -n "$prefixes" ] || fail input 'no prefix'
    member
    for dir in "$data/member" "$data"/member.before-* "$data"/member.undone-*; do
        kind=${dir##*/}
        short=
        case $kind in
        member) db=database wal=wal ;;
        *) db=old wal=old short=$kind/ ;;
        esac
        for file in "$dir/snap/db" "$dir"/snap/*.snap.db; do
            scan_file "$db" "$short${file##*/}" "$file" db
        done
        for file in "$dir"/wal/*.wal; do
            scan_file "$wal" "$short${file##*/}" "$file" wal
        done
    done
    for entry in "$store"/snapshots/*; do
        ! ours "$entry" || scan_file snapshot "${entry##*/}" "$entry/db" db
    done
}

# ---------------------------------------------------------------------------- restoring

restore=$store/restore
new=
old=

note() { # STATE
    printf '%s\n' "$1" | put "$restore/state"
}

uptime_seconds() { # a clock that nobody sets
    { read -r up rest </proc/uptime; } 2>/dev/null || up=$(date +%s)
    printf '%s' "${up%%.*}"
}

flag() { # NAME: sets $flag to what etcd's manifest says, for by that it is started
    flag=$(sed -n "s/^ *- *[\"']\{0,1\}--$1=//p" "$manifests/etcd.yaml" | tr -d "\"'")
    case $flag in
    '' | *[!A-Za-z0-9._:/%-]*) fail etcd "$manifests/etcd.yaml has no single plain line with --$1=" ;;
    esac
}

running() { # whether the run on this node that works on the restore is alive
    IFS=' ' read -r runner start 2>/dev/null <"$restore/runs" || return 1
    [ -n "$start" ] && [ "$(started "$runner")" = "$start" ]
}

detach() { # go|back: goes on by itself, whatever becomes of the connection
    rm -f "$restore/runs"
    set -- /bin/sh "$restore/harden.sh" run "$1"
    if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null 2>&1 &&
        systemd-run --quiet --collect --unit="harden-etcd-restore-$$" "$@" </dev/null >/dev/null 2>&1; then
        :
    elif command -v setsid >/dev/null 2>&1; then
        setsid "$@" </dev/null >/dev/null 2>&1 &
    else
        nohup "$@" </dev/null >/dev/null 2>&1 &
    fi
    tries=0
    until [ -f "$restore/runs" ]; do
        tries=$((tries + 1))
        [ "$tries" -le 100 ] || return 1
        sleep 0.1 2>/dev/null || sleep 1
    done
}

open_restore() { # whether one has begun that has not ended
    case $(first_line "$restore/state") in '' | committed | reverted) return 1 ;; esac
}

verb_restore() { # NAME SECONDS BUMP SHA256; this script
    snapshot_of "$1"
    digits "$2"
    digits "$3"
    ! open_restore || fail busy "a restore has begun on this node and is at $(first_line "$restore/state")"
    for file in etcd kube-apiserver; do
        [ -f "$manifests/$file.yaml" ] || fail etcd "$manifests/$file.yaml is not there; kubeadm's static pods are restored"
    done
    [ "$(sum "$entry/db")" = "$(noted "$entry" sha256)" ] || fail unknown "snapshot $1 is not what it was when it was made"
    process etcd
    tool etcdutl
    # Without it, clients that watch would take the past for the present, and never be told.
    "$tool" snapshot restore --help 2>&1 | grep -q -e '--bump-revision' ||
        fail etcd "this etcdutl has no --bump-revision, without which clients do not notice the restore"
    flag name
    member=$flag
    flag initial-advertise-peer-urls
    peers=$flag
    flag data-dir
    data=$flag
    case $data in /*) ;; *) fail etcd "--data-dir=$data is not absolute" ;; esac
    [ -d "$data/member" ] && [ ! -L "$data" ] && [ ! -L "$data/member" ] ||
        fail etcd "$data/member is no directory of this node; make it, empty, if it is lost"
    if [ -n "$pid" ]; then
        [ "$(stat -c %d:%i "$data")" = "$(stat -c %d:%i "/proc/$pid/root$data" 2>/dev/null)" ] ||
            fail etcd "etcd's $data is another directory of the node"
    fi
    owner=$(stat -c %u:%g "$data/member")
    # Where others live, this one would begin a second cluster beside theirs.
    ! sed -n "s/^ *- *[\"']\{0,1\}--initial-cluster=//p" "$manifests/etcd.yaml" | grep -q , ||
        fail members "$manifests/etcd.yaml names several members in --initial-cluster"
    bytes=$(stat -c %s "$entry/db")
    room "$data" "$((bytes * 2 + 201326592))"
    rm -rf "$restore" "$data"/.harden.restore.*
    why=$( (mkdir -m 0700 "$restore") 2>&1) || fail unwritable "$why"
    time=$(date -u +%Y%m%dT%H%M%SZ)
    new=$data/.harden.restore.$time
    work=$new
    "$tool" snapshot restore "$entry/db" --data-dir "$new" --name "$member" --initial-cluster "$member=$peers" \
        --initial-advertise-peer-urls "$peers" --bump-revision "$3" --mark-compacted \
        >/dev/null 2>"$restore/words" || fail etcd "the snapshot cannot be restored: $(last_words "$restore/words")"
    [ -d "$new/member/wal" ] && [ -s "$new/member/snap/db" ] || fail etcd 'the snapshot gave no database'
    why=$( (chown -hR "$owner" "$new" && chmod 0700 "$new/member" && fsync "$new/member/snap/db") 2>&1) ||
        fail unwritable "$why"
    cat >"$restore/harden.sh"
    [ "$(sum "$restore/harden.sh")" = "$4" ] || fail input 'the script arrived damaged'
    for word in commit revert; do printf '%s\n' "$word" >"$restore/decide-$word"; done
    printf 'snapshot %s\ndata %s\nnew %s\nold %s\nseconds %s\n' "$1" "$data" "$new" \
        "$data/member.before-$time" "$2" | put "$restore/plan"
    note prepared
    work=
    detach go && return 0
    # What was started may only be slow. Whoever makes this directory decides whether it goes.
    mkdir "$restore/going" 2>/dev/null || return 0
    note reverted
    rm -rf "$new"
    fail watchdog 'nothing can be started on the node that would outlive the connection'
}

planned() { # KEY
    sed -n "s/^$1 //p" "$restore/plan" 2>/dev/null | head -n 1
}

verb_restoring() { # STATE yes|no; the snapshot; where the old data lies, and where the data that was put back; why
    running && alive=yes || alive=no
    printf '%s %s\n%s\n%s\n%s\n%s\n' "$(first_line "$restore/state")" "$alive" "$(planned snapshot)" \
        "$(planned old)" "$(first_line "$restore/undone")" "$(first_line "$restore/why")"
}

verb_decide() { # commit|revert; why in a line
    line
    case $1 in commit | revert) ;; *) fail input "$1" ;; esac
    open_restore || fail decided 'no restore waits for it'
    [ "$1" = commit ] || printf '%s\n' "$line" | put "$restore/why"
    decide "$1"
    [ "$decision" = "$1" ] || fail decided "it was decided otherwise: $(first_line "$restore/why")"
}

verb_resume() { # brings the old data back where the run on the node is dead
    ! open_restore || running || detach back || fail watchdog 'nothing can be started on the node'
}

decide() { # WORD: sets $decision to what was decided first
    ln "$restore/decide-$1" "$restore/decision" 2>/dev/null
    fsync "$restore"
    decision=$(first_line "$restore/decision")
}

stop() { # the manifests go, each copied before, and with them the control plane
    mkdir -p "$restore/manifests"
    for file in kube-controller-manager kube-scheduler kube-apiserver etcd; do
        [ -f "$manifests/$file.yaml" ] || continue
        cp -p "$manifests/$file.yaml" "$restore/manifests/.new" && fsync "$restore/manifests/.new" &&
            mv -f "$restore/manifests/.new" "$restore/manifests/$file.yaml" && fsync "$restore/manifests" &&
            rm -f "$manifests/$file.yaml" || return 1
    done
    fsync "$manifests"
    end=$(($(uptime_seconds) + 300))
    while process etcd || process kube-apiserver; do
        [ "$(uptime_seconds)" -lt "$end" ] || return 1
        sleep 1
    done
}

start() { # they come back, each whole; the kubelet ignores dot files
    for file in "$restore"/manifests/*.yaml; do
        [ -f "$file" ] || continue
        cp -p "$file" "$manifests/.harden.restore" && fsync "$manifests/.harden.restore" &&
            mv -f "$manifests/.harden.restore" "$manifests/${file##*/}" || return 1
    done
    fsync "$manifests"
}

go() { # the way there; 1 and $why where it must go back
    # Once, and not where somebody has given it up meanwhile.
    mkdir "$restore/going" 2>/dev/null && [ "$(first_line "$restore/state")" = prepared ] || exit 1
    note stopping
    stop || {
        why='etcd and the API server did not end'
        return 1
    }
    note swapping
    mv "$data/member" "$old" && mv "$new/member" "$data/member" && fsync "$data" || {
        why="the data in $data could not be moved"
        return 1
    }
    note starting
    start || {
        why="the manifests could not be put back into $manifests"
        return 1
    }
    note waiting
    end=$(($(uptime_seconds) + seconds))
    while [ ! -f "$restore/decision" ] && [ "$(uptime_seconds)" -lt "$end" ]; do sleep 1; done
    why=$(first_line "$restore/why")
    decide revert
    [ "$decision" = commit ] && return 0
    why=${why:-nobody has said in time that it works}
    return 1
}

settle() { # nothing but the data that is used, and where the way there was gone, the old
    note committed
    rm -rf "$new" "$restore/manifests"
}

aside() { # what etcd made of the snapshot goes aside; nobody else has what was written since
    [ -e "$data/member" ] || return 0
    undone=$data/member.undone-${new##*.}
    number=1
    while [ -e "$undone" ]; do
        number=$((number + 1))
        undone=$data/member.undone-${new##*.}-$number
    done
    printf '%s\n' "$undone" | put "$restore/undone" && mv "$data/member" "$undone"
}

back() { # the old data comes back; may be done again at any time
    decide revert
    if [ "$decision" = commit ]; then
        start
        settle
        return
    fi
    note reverting
    printf '%s\n' "$why" | put "$restore/why"
    until {
        if [ -d "$old" ]; then
            stop && aside && mv "$old" "$data/member" && fsync "$data"
        fi && start
    }; do
        # Nobody else may do it if this fails: try for as long as the node runs.
        sleep 5
    done
    rm -rf "$new" "$restore/manifests"
    note reverted
}

run() { # go|back
    trap '' HUP INT PIPE
    data=$(planned data)
    new=$(planned new)
    old=$(planned old)
    seconds=$(planned seconds)
    case $data:$new:$old in /*:"$data"/*:"$data"/*) ;; *) exit 1 ;; esac
    # One at a time: `detach` removes that of a dead run.
    printf '%s %s\n' "$$" "$(started $$)" >"$restore/runs.$$"
    ln "$restore/runs.$$" "$restore/runs" || exit 1
    rm -f "$restore/runs.$$"
    fsync "$restore"
    why='it was interrupted'
    if [ "$1" = go ] && go; then settle; else back; fi
    exit 0
}

# ---------------------------------------------------------------------------- main

main() {
    [ "${1:-}" != run ] || run "$2"
    if [ "${1:-}" = scheduled ]; then
        verb_snapshot "$2" schedule
        finish 0
    fi
    IFS= read -r line || exit 2
    case $line in
    'harden-etcd 1 '*) ;;
    *) exit 2 ;;
    esac
    # Words of digits and letters only: nothing to expand but the spaces between them.
    case $line in *[!A-Za-z0-9\ -]*) exit 2 ;; esac
    set -f
    # shellcheck disable=SC2086
    set -- $line
    set +f
    nonce=$3
    verb=$4
    shift 4
    printf '\nharden-begin %s\n' "$nonce"
    case $verb in
    snapshot | list | part | member | compact | defragment | scan | restore | restoring | decide | resume)
        "verb_$verb" "$@"
        ;;
    *) fail input "there is no verb $verb" ;;
    esac
    printf 'ok\n'
    finish 0
}

main "$@"
