# harden: transactions on a node. Runs as root, as `sh -c THIS harden`; POSIX sh, dash and BusyBox.
#
# What to do is data on stdin, never part of a command: one line
#   harden-transaction 1 NONCE HOLDER VERB ARGUMENT...
# then what the verb wants: whole lines, then content to the end. The answer stands between the
# lines `harden-begin NONCE` and `harden-end NONCE`; a failure is a line `error CODE MESSAGE`.
#
# A state of a path is written `absent`, `file/SHA256/MODE/OWNER/GROUP`, `mode/MODE/OWNER/GROUP` or, of a
# file with a private key, `kept/MODE/OWNER/GROUP`; that of a directory with everything below it
# `owners/UID:GID,UID:GID…`, each owner once, sorted as text.
# A transaction lies in generations/GENERATION/step-NUMBER/; its state is one of
#   staged     nothing is changed
#   active     it is being changed, or waits for `commit` until the watchdog's deadline
#   committed  it stays
#   reverting  the pre-images are being put back
#   reverted   they are back
# `decision` is made once, by a hard link: whoever of commit and revert comes first has won.

set -u
umask 077
LC_ALL=C
PATH="${PATH:-}:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin"
export LC_ALL PATH

home=/var/lib/harden
nonce=

# ---------------------------------------------------------------------------- answers

finish() {
    [ -n "$nonce" ] && printf 'harden-end %s\n' "$nonce"
    exit "$1"
}

fail() { # CODE MESSAGE
    [ -n "$nonce" ] && printf 'error %s %s\n' "$1" "$(printf '%s' "$2" | tr '\n' ' ')"
    finish 1
}

line() { # reads one line of stdin into $line
    IFS= read -r line || fail input 'a line is missing'
}

digits() {
    case $1 in '' | *[!0-9]*) fail input "$1 is no number" ;; esac
}

holds() { # only the holder of the node's lock changes anything
    [ "$holder" = "$(sum "$home/lock" 2>/dev/null)" ] ||
        fail lock 'this run does not hold the lock of the node'
}

# ---------------------------------------------------------------------------- files

fsync() { # old versions of sync know no files
    sync "$@" 2>/dev/null || sync
}

sum() {
    sha256sum <"$1" | cut -d ' ' -f 1
}

put() { # FILE: content from stdin, whole or not at all
    cat >"$1.$$" && fsync "$1.$$" && mv -f "$1.$$" "$1" && fsync "${1%/*}"
}

first_line() { # FILE
    text=
    { IFS= read -r text <"$1"; } 2>/dev/null
    printf '%s' "$text"
}

parent() {
    dir=${1%/*}
    [ -n "$dir" ] || dir=/
}

started() { # PID: when it started; the name in the second field may hold anything
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
}

uptime_seconds() { # a clock that nobody sets
    { read -r up rest </proc/uptime; } 2>/dev/null || up=$(date +%s)
    printf '%s' "${up%%.*}"
}

nap() {
    sleep 0.1 2>/dev/null || sleep 1
}

look() { # PATH WANTED: sets $now to the state, $ids to the same with numbers for names
    now=other
    ids=other
    if [ -L "$1" ]; then
        return
    elif [ "${2#owners/}" != "$2" ]; then
        [ -d "$1" ] && now=owners/$(owners "$1") && ids=$now
        return
    elif [ -f "$1" ] || [ -d "$1" ]; then
        meta=$(stat -c '%a/%u/%g/%U/%G' "$1" 2>/dev/null) || return
        IFS=/ read -r m u g o p <<END
$meta
END
        [ "$o" = UNKNOWN ] && o=$u
        [ "$p" = UNKNOWN ] && p=$g
        now=mode/$m/$o/$p
        ids=mode/$m/$u/$g
        case $2 in
        mode/*) return ;;
        kept/*)
            now=kept/$m/$o/$p
            [ -f "$1" ] || now=other
            ids=$now
            return
            ;;
        esac
        if [ -f "$1" ]; then
            content=$(sum "$1")
            now=file/$content/$m/$o/$p
            ids=file/$content/$m/$u/$g
        fi
    elif [ ! -e "$1" ]; then
        now=absent
        ids=absent
    fi
}

owners() { # TREE: whom it belongs to; a link belongs to somebody too, and is not followed
    # What a running program removes meanwhile belongs to nobody.
    find "$1" -exec stat -c '%u:%g' {} + 2>/dev/null | sort -u | tr '\n' ',' | sed 's/,$//'
}

handed_over() { # TREE UID:GID: gives all of it away; what a running program adds meanwhile too
    for try in 1 2 3 4 5 6; do
        look "$1" owners/
        [ "$now" != "owners/$2" ] || return 0
        # A link in it is given away itself: it may lead anywhere.
        chown -hR "$2" "$1" 2>/dev/null
    done
    return 1
}

among() { # STATE STATE: whether both are of trees, and each owner of the first is one of the second
    case $1 in owners/?*) ;; *) return 1 ;; esac
    case $2 in owners/?*) ;; *) return 1 ;; esac
    left=${1#owners/},
    while [ -n "$left" ]; do
        case ,${2#owners/}, in *",${left%%,*},"*) ;; *) return 1 ;; esac
        left=${left#*,}
    done
}

given_back() { # TREE FILE: each path to its owner in that list, and what is new to the owner of the tree
    IFS=' ' read -r top entry <"$2" || return 1
    chown -hR "$top" "$1" 2>/dev/null
    while IFS= read -r entry; do
        [ "${entry%% *}" != "$top" ] || continue
        # A name can hold anything; nothing outside of the tree is touched.
        case ${entry#* } in
        */../* | */..) continue ;;
        "$1"/*) ;;
        *) continue ;;
        esac
        if [ -e "${entry#* }" ] || [ -L "${entry#* }" ]; then
            chown -h "${entry%% *}" "${entry#* }" 2>/dev/null
        fi
    done <"$2"
    look "$1" owners/
}

listed() { # TREE FILE: writes the owner of every path in it, the tree first
    for try in 1 2 3 4 5 6; do
        # A file may be gone before it was looked at.
        find "$1" -exec stat -c '%u:%g %n' {} + >"$2" 2>/dev/null && fsync "$2" && return
    done
    return 1
}

missing() { # PATH: its missing parent directories, outermost first
    above=${1%/*}
    list=
    while [ -n "$above" ] && [ ! -d "$above" ]; do
        list="$above
$list"
        above=${above%/*}
    done
    printf '%s' "$list"
}

make_dirs() { # FILE: of names, one a line
    while IFS= read -r name; do
        [ -d "$name" ] || mkdir -m 0700 "$name" || return 1
    done <"$1"
}

remove_dirs() { # FILE: innermost first; what is not empty stays
    sed '1!G;h;$!d' "$1" | while IFS= read -r name; do
        rmdir "$name" 2>/dev/null
    done
}

temporary() { # PATH INDEX: sets $temp; the kubelet ignores dot files
    parent "$1"
    temp=${dir%/}/.harden.$generation-$number-$2.$$
}

sweep() { # PATH INDEX: what a crash left behind
    parent "$1"
    [ -d "$dir" ] && rm -f "${dir%/}/.harden.$generation-$number-$2".*
}

kernel() { # PATH: a kernel parameter, which is written in place and has a mode of its own
    case $1 in /proc/sys/*) ;; *) return 1 ;; esac
}

place() { # FROM PATH INDEX MODE OWNER GROUP: beside the target, then over it
    if kernel "$2"; then
        cat "$1" >"$2"
        return
    fi
    temporary "$2" "$3"
    rm -f "$temp"
    (set -C && cat "$1" >"$temp") && chown "$5:$6" "$temp" && chmod "$4" "$temp" &&
        fsync "$temp" && [ ! -d "$2" ] && mv -f "$temp" "$2" && fsync "$dir" && return
    rm -f "$temp"
    return 1
}

# ---------------------------------------------------------------------------- transactions

at() { # GENERATION NUMBER
    digits "$1"
    digits "$2"
    generation=$1
    number=$2
    step=$home/generations/$1/step-$2
}

state() { # sets $state; a commit that was decided counts, even if it crashed before it was noted
    state=$(first_line "$step/state")
    [ "$state" = active ] && [ "$(first_line "$step/decision")" = commit ] && state=committed
    return 0
}

set_state() { # the files are made beforehand: a rename works on a full disk
    if [ "$(first_line "$step/state")" = "$1" ]; then
        return 0
    elif [ -f "$step/next-$1" ]; then
        mv -f "$step/next-$1" "$step/state" && fsync "$step"
    else
        printf '%s\n' "$1" | put "$step/state"
    fi
}

decide() { # WORD: sets $decision to what was decided first
    ln "$step/decide-$1" "$step/decision" 2>/dev/null
    fsync "$step"
    decision=$(first_line "$step/decision")
}

each() { # FUNCTION, on every file of the transaction in order
    index=$first
    while [ "$index" -lt "$((first + count))" ]; do
        path=$(first_line "$step/$index.path")
        expected=$(first_line "$step/$index.before")
        target=$(first_line "$step/$index.target")
        "$1" || return 1
        index=$((index + 1))
    done
}

load() {
    [ -f "$step/files" ] || fail unknown "there is no transaction $number of generation $generation"
    read -r first count <"$step/files"
    digits "$first"
    digits "$count"
}

unmoved() {
    [ -n "$path" ] && [ -n "$expected" ] && [ -n "$target" ] ||
        fail state 'the transaction is not fully staged'
    look "$path" "$expected"
    [ "$now" = "$expected" ] || fail moved "$path: expected $expected, found $now"
}

remember() { # the pre-image, before anything is changed
    case $target in
    kept/*) look "$path" file/ ;;
    *) look "$path" "$target" ;;
    esac
    case $ids in
    other) return 1 ;;
    owners/*) listed "$path" "$step/$index.owners" || return 1 ;;
    file/*)
        cat "$path" >"$step/$index.pre" || return 1
        [ "file/$(sum "$step/$index.pre")" = "${ids%/*/*/*}" ] || return 1
        fsync "$step/$index.pre"
        ;;
    esac
    missing "$path" >"$step/$index.dirs" || return 1
    fsync "$step/$index.dirs"
    printf '%s\n' "$ids" | put "$step/$index.pre-state"
}

renewed() { # by kubeadm, once for all files of a certificate
    name=$(first_line "$step/$index.renew")
    what="kubeadm certs renew $name"
    if [ ! -f "$step/renewed.$name" ]; then
        limit=
        ! command -v timeout >/dev/null || limit="timeout 45"
        : >"$step/renewing"
        # shellcheck disable=SC2086
        said=$($limit $what 2>&1 </dev/null) || {
            rm -f "$step/renewing"
            echo "$what: $(echo "$said" | tail -n 1)"
            return 1
        }
        rm -f "$step/renewing"
        : >"$step/renewed.$name"
    fi
    [ "$(sum "$path")" != "$(sum "$step/$index.pre")" ] || {
        echo "$what left $path as it was"
        return 1
    }
    chown "$b:$c" "$path" && chmod "$a" "$path" && fsync "$path"
}

noted() { # what this transaction made
    sum "$path" >"$step/$index.post" && fsync "$step/$index.post"
}

give() { # a tree, as its target says
    if [ -f "$step/$index.give" ]; then
        given_back "$path" "$step/$index.give"
    else
        handed_over "$path" "${target#owners/}"
    fi
}

follow() {
    case $target in owners/*) ;; *) return 0 ;; esac
    look "$path" "$target"
    [ "$now" = "$target" ] || give
    return 0
}

follow_up() { # until the old program has ended it adds files of its own: they are given away as well
    [ -f "$step/trees" ] || return 0
    started $$ >"$step/following.$$"
    # Whoever puts it back decides first and then waits for this file to go.
    [ -e "$step/decision" ] || each follow
    rm -f "$step/following.$$"
}

stop_following() {
    for file in "$step"/following.*; do
        [ -f "$file" ] && [ "${file##*.}" != "$$" ] || continue
        tries=0
        while [ -f "$file" ] && [ "$(started "${file##*.}")" = "$(first_line "$file")" ]; do
            tries=$((tries + 1))
            [ "$tries" -le 100 ] || break
            nap
        done
    done
}

change() {
    [ ! -e "$step/decision" ] || return 1
    IFS=/ read -r kind a b c d <<END
$target
END
    case $kind in
    absent)
        rm -f "$path" || return 1
        [ ! -f "$step/$index.rmdirs" ] || remove_dirs "$step/$index.rmdirs"
        parent "$path"
        [ ! -d "$dir" ] || fsync "$dir"
        ;;
    file)
        make_dirs "$step/$index.dirs" && place "$step/$index.new" "$path" "$index" "$b" "$c" "$d" || return 1
        ;;
    owners)
        give || return 1
        ;;
    kept)
        if [ -f "$step/$index.renew" ]; then
            renewed
        else
            place "$step/$index.new" "$path" "$index" "$a" "$b" "$c"
        fi && noted || return 1
        ;;
    mode)
        # What is gone by now has no mode, and nothing is lost.
        [ -e "$path" ] || [ -L "$path" ] || return 0
        # chown takes away the set-id bits, so chmod comes after it.
        chown "$b:$c" "$path" && chmod "$a" "$path" && fsync "$path" || return 1
        ;;
    esac
    look "$path" "$target"
    # Whoever owned only what is gone by now need not be found.
    [ "$now" = "$target" ] || among "$now" "$target"
}

back() { # one pre-image; may be done again at any time, by two at once
    was=$(first_line "$step/$index.pre-state")
    [ -n "$was" ] || return 0
    look "$path" "$was"
    # The owners of a tree may have changed places.
    if [ "$ids" != "$was" ] || [ "${was#owners/}" != "$was" ]; then
        IFS=/ read -r kind a b c d <<END
$was
END
        case $kind in
        absent)
            rm -f "$path"
            ;;
        file)
            missing "$path" >"$step/$index.back.$$" && make_dirs "$step/$index.back.$$"
            rm -f "$step/$index.back.$$"
            # A full disk has no room for a second copy, but the place of the first.
            place "$step/$index.pre" "$path" "$index" "$b" "$c" "$d" || {
                [ ! -L "$path" ] && cat "$step/$index.pre" >"$path" &&
                    chown "$c:$d" "$path" && chmod "$b" "$path" && fsync "$path"
            }
            ;;
        owners)
            for try in 1 2 3 4 5; do
                given_back "$path" "$step/$index.owners" && among "$ids" "$was" && break
            done
            ;;
        mode)
            chown "$b:$c" "$path" && chmod "$a" "$path" && fsync "$path"
            ;;
        esac
        look "$path" "$was"
        case $was in mode/*) [ "$ids" != absent ] || ids=$was ;; esac
        # Whoever owned only what is gone by now need not be found.
        ! among "$ids" "$was" || ids=$was
    fi
    [ "$was" != absent ] || remove_dirs "$step/$index.dirs"
    sweep "$path" "$index"
    [ "$ids" = "$was" ] || trouble="$trouble $path"
    return 0
}

restart_units() { # the kubelet may wait for long before it is up, and the gate waits for it anyway
    [ -s "$step/units" ] || return 0
    : >"$step/restarted" || return 1
    while IFS= read -r unit; do
        case $unit in
        harden-*)
            our_timer "$unit.timer" || return 1
            continue
            ;;
        esac
        systemctl reset-failed "$unit" >/dev/null 2>&1
        systemctl --no-block restart "$unit" || return 1
    done <"$step/units"
}

our_timer() { # UNIT, whose files are in place, or gone again
    systemctl daemon-reload || return 1
    if [ ! -f "/etc/systemd/system/$1" ]; then
        systemctl stop "$1" >/dev/null 2>&1
        systemctl reset-failed "$1" >/dev/null 2>&1
        return 0
    fi
    systemctl restart "$1" && return 0
    # What systemd does not understand of it is in its log.
    systemctl status --no-pager --lines=3 "$1" 2>&1 | tail -n 3
    return 1
}

stop_activation() { # one that still runs must not write after the pre-images are back
    read -r pid start 2>/dev/null <"$step/activating" || return 0
    [ "$pid" != "$$" ] || return 0
    tries=0
    most=
    while [ "$(started "$pid")" = "$start" ] && [ -f "$step/activating" ]; do
        tries=$((tries + 1))
        # A kubeadm that it began would go on, and write, without it.
        [ -n "$most" ] || [ -f "$step/renewing" ] || most=$((tries + 50))
        if [ "$tries" -gt "${most:-600}" ]; then
            kill -9 "$pid"
            sleep 1
            return 0
        fi
        nap
    done
}

restore() { # KIND WHY: the last file first
    stop_activation
    stop_following
    set_state reverting
    { printf '%s %s\n' "$1" "$2" | put "$step/why"; } 2>/dev/null
    trouble=
    index=$((first + count - 1))
    while [ "$index" -ge "$first" ]; do
        path=$(first_line "$step/$index.path")
        [ -z "$path" ] || back
        index=$((index - 1))
    done
    # Only what was restarted with the new files needs the old ones again.
    [ ! -f "$step/restarted" ] || restart_units >/dev/null 2>&1 || trouble="$trouble units"
    [ -z "$trouble" ] && set_state reverted
}

begin_revert() { # KIND WHY
    decide revert
    [ "$decision" = revert ] || return 2
    restore "$1" "$2"
}

left_alone() {
    look "$path" "$target"
    case $target in
    kept/*) [ "$now" = "$target" ] && [ "$(sum "$path")" = "$(first_line "$step/$index.post")" ] && return 0 ;;
    *) [ "$now" = "$target" ] && return 0 ;;
    esac
    case $target in mode/*) [ "$now" != absent ] || return 0 ;; esac
    look "$path" "$(first_line "$step/$index.pre-state")"
    [ "$ids" = "$(first_line "$step/$index.pre-state")" ] && return 0
    fail moved "$path is $now, which this generation did not leave there"
}

# ---------------------------------------------------------------------------- watchdog

watch() { # SECONDS: puts everything back unless somebody commits
    trap '' HUP INT PIPE
    me="$$ $(started $$)"
    printf '%s\n' "$me" | put "$step/watch" || exit 1
    end=$(($(uptime_seconds) + $1))
    while [ "$(uptime_seconds)" -lt "$end" ]; do
        [ "$(first_line "$step/watch")" = "$me" ] || exit 0
        state
        case $state in staged | active | reverting) ;; *) exit 0 ;; esac
        [ "$state" != active ] || follow_up
        sleep 1
    done
    # Nobody else may put it back if this fails: try for as long as the node runs.
    while :; do
        begin_revert timer 'the dead-man timer ran out' && exit 0
        [ "$decision" = commit ] && exit 0
        sleep 5
    done
}

watching() { # whether the watchdog has begun to count
    tries=0
    while [ ! -f "$step/watch" ]; do
        tries=$((tries + 1))
        [ "$tries" -le 50 ] || return 1
        nap
    done
}

start_watchdog() { # SECONDS; it outlives the connection, and the script that it runs is on the node
    rm -f "$step/watch"
    set -- /bin/sh "$step/harden.sh" watch "$generation" "$number" "$1"
    if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null 2>&1 &&
        systemd-run --quiet --collect --unit="harden-$generation-$number-$$" "$@" \
            </dev/null >/dev/null 2>&1 && watching; then
        return 0
    fi
    if command -v setsid >/dev/null 2>&1; then
        setsid "$@" </dev/null >/dev/null 2>&1 &
    else
        nohup "$@" </dev/null >/dev/null 2>&1 &
    fi
    watching
}

# ---------------------------------------------------------------------------- verbs

make_home() {
    [ ! -L "$home" ] || fail unwritable "$home is a symbolic link"
    why=$( (mkdir -p "$home/generations" && chmod 0700 "$home" "$home/generations") 2>&1) ||
        fail unwritable "$why"
}

# The holder in a line; with a hash: take it over from the holder of that hash. While a restore of etcd is open
# (the states are etcd.sh's), only who ends it gets the lock, by the word `restore`: what others would do is lost
# when the old data comes back.
verb_lock() { # [restore] [HASH]
    line
    if [ "${1:-}" = restore ]; then
        shift
    else
        state=$(first_line "$home/etcd/restore/state")
        case $state in
        '' | committed | reverted) ;;
        *) fail restoring "a restore of etcd is open on this node, and is at \"$state\"" ;;
        esac
    fi
    make_home
    why=$( (printf '%s\n' "$line" >"$home/lock.$$" && fsync "$home/lock.$$") 2>&1) || {
        rm -f "$home/lock.$$"
        fail unwritable "$why"
    }
    if [ $# -gt 0 ] && [ -f "$home/lock" ] && mv -f "$home/lock" "$home/lock.old.$$" 2>/dev/null; then
        if [ "$(sum "$home/lock.old.$$")" != "$1" ]; then
            ln "$home/lock.old.$$" "$home/lock" 2>/dev/null
        fi
        rm -f "$home/lock.old.$$"
    fi
    if ln "$home/lock.$$" "$home/lock" 2>/dev/null ||
        [ "$(sum "$home/lock.$$")" = "$(sum "$home/lock" 2>/dev/null)" ]; then
        rm -f "$home/lock.$$"
        fsync "$home"
        return
    fi
    rm -f "$home/lock.$$"
    [ -f "$home/lock" ] || fail unwritable "no lock can be made in $home"
    fail locked "$(first_line "$home/lock")"
}

verb_unlock() {
    [ "$holder" = "$(sum "$home/lock" 2>/dev/null)" ] && rm -f "$home/lock"
    return 0
}

verb_who() {
    [ ! -f "$home/lock" ] || first_line "$home/lock"
    printf '\n'
}

verb_put() { # GENERATION record|journal SHA256; content
    digits "$1"
    case $2 in record | journal) ;; *) fail input "$2" ;; esac
    holds
    dir=$home/generations/$1
    why=$( (mkdir -p "$dir" && cat >"$dir/$2.$$" && fsync "$dir/$2.$$") 2>&1) || {
        rm -f "$dir/$2.$$"
        fail unwritable "$why"
    }
    [ "$(sum "$dir/$2.$$")" = "$3" ] || {
        rm -f "$dir/$2.$$"
        fail input 'the content arrived damaged'
    }
    mv -f "$dir/$2.$$" "$dir/$2" && fsync "$dir" || fail unwritable "$dir/$2"
}

verb_read() { # GENERATION: the record in a line, then the journal, an entry a line
    digits "$1"
    [ -f "$home/generations/$1/record" ] || fail unknown "there is no generation $1"
    cat "$home/generations/$1/record"
    [ ! -f "$home/generations/$1/journal" ] || cat "$home/generations/$1/journal"
}

verb_list() {
    for entry in "$home"/generations/*; do
        [ -d "$entry" ] || continue
        if [ -f "$entry/record" ]; then
            # A run writes that it has ended last, so that nobody needs to read all of it to know.
            case $(tail -n 1 "$entry/journal" 2>/dev/null) in
            *'"event":{"end":'*) printf 'ended %s\n' "${entry##*/}" ;;
            *) printf 'generation %s\n' "${entry##*/}" ;;
            esac
        fi
        for step in "$entry"/step-*; do
            [ -f "$step/state" ] || continue
            state
            printf 'step %s %s %s %s\n' "${entry##*/}" "${step##*/step-}" "$state" \
                "$(first_line "$step/why")"
        done
    done
}

verb_begin() { # GENERATION NUMBER FIRST COUNT SHA256 UNIT...; this script
    at "$1" "$2"
    digits "$3"
    digits "$4"
    holds
    state
    case $state in
    '' | staged | reverted) ;;
    *) fail state "transaction $number of generation $generation is $state" ;;
    esac
    # An activation that still runs would find its files gone.
    [ "$state" != staged ] || { ln "$step/decide-revert" "$step/decision" 2>/dev/null; stop_activation; }
    why=$( (rm -rf "$step" && mkdir -p "$step" && cat >"$step/harden.sh") 2>&1) ||
        fail unwritable "$why"
    [ "$(sum "$step/harden.sh")" = "$5" ] || fail input 'the script arrived damaged'
    for word in active committed reverting reverted; do
        why=$( (printf '%s\n' "$word" >"$step/next-$word") 2>&1) || fail unwritable "$why"
    done
    for word in commit revert; do
        why=$( (printf '%s\n' "$word" >"$step/decide-$word") 2>&1) || fail unwritable "$why"
    done
    why=$( (printf '%s %s\n' "$3" "$4" >"$step/files") 2>&1) || fail unwritable "$why"
    shift 5
    if [ $# -gt 0 ]; then
        command -v systemctl >/dev/null 2>&1 || fail unwritable "this node has no systemd to restart $* by"
        why=$( (printf '%s\n' "$@" >"$step/units") 2>&1) || fail unwritable "$why"
    fi
    why=$( (printf 'staged\n' | put "$step/state") 2>&1) || fail unwritable "$why"
    fsync "$step"/*
}

verb_stage() { # GENERATION NUMBER INDEX now|later; path, before, target, source; content
    at "$1" "$2"
    digits "$3"
    index=$3
    line
    path=$line
    case $path in /*) ;; *) fail input "$path is not absolute" ;; esac
    line
    expected=$line
    line
    target=$line
    line
    source=$line
    holds
    load
    state
    [ "$state" = staged ] || fail state "transaction $number of generation $generation is $state"
    # A path that an earlier step of this run changes can only be checked when its turn comes.
    [ "$4" = later ] || unmoved
    new=$step/$index.new
    case $source in
    none) ;;
    stdin)
        why=$( (cat >"$new") 2>&1) || fail unwritable "$why"
        ;;
    pre-image/*)
        IFS=/ read -r word from at_index <<END
$source
END
        digits "$from"
        digits "$at_index"
        found=
        for old in "$home/generations/$from"/step-*; do
            [ -f "$old/$at_index.pre-state" ] && found=$old
        done
        [ -n "$found" ] || fail unknown "generation $from left no pre-image of $path on this node"
        case $target in
        absent)
            # The directories that were made for the file go with it.
            why=$( (cat "$found/$at_index.dirs" >"$step/$index.rmdirs") 2>&1) || fail unwritable "$why"
            ;;
        file/*)
            why=$( (cat "$found/$at_index.pre" >"$new") 2>&1) || fail unwritable "$why"
            ;;
        kept/*)
            [ ! -f "$path" ] || [ "$(sum "$path")" = "$(first_line "$found/$at_index.post")" ] ||
                fail moved "$path is not what generation $from left there"
            why=$( (cat "$found/$at_index.pre" >"$new") 2>&1) || fail unwritable "$why"
            ;;
        owners/*)
            why=$( (cat "$found/$at_index.owners" >"$step/$index.give") 2>&1) || fail unwritable "$why"
            ;;
        esac
        ;;
    kubeadm/*)
        case $source in *[!a-z./-]*) fail input "$source" ;; esac
        command -v kubeadm >/dev/null || fail unwritable "this node has no kubeadm"
        why=$( (echo "${source#*/}" >"$step/$index.renew") 2>&1) || fail unwritable "$why"
        ;;
    *) fail input "$source" ;;
    esac
    if kernel "$path"; then
        [ -w "$path" ] || fail unwritable "$path cannot be written"
        note_file
        return
    fi
    # Room, a writable directory and a known owner are proven before anything is changed.
    parent "$path"
    while [ ! -d "$dir" ]; do parent "$dir"; done
    probe=${dir%/}/.harden.$generation-$number-$index.$$
    rm -f "$probe" 2>/dev/null
    case $target in
    absent) why=$( (set -C && printf '' >"$probe") 2>&1) ;;
    mode/* | kept/*)
        IFS=/ read -r word m o g <<END
$target
END
        why=$( (set -C && printf '' >"$probe" && chown "$o:$g" "$probe" && chmod "$m" "$probe") 2>&1)
        ;;
    owners/*)
        [ -d "$path" ] && [ ! -L "$path" ] || fail unwritable "$path is no directory"
        # Of what is written down of it, each line is one path.
        [ -z "$(find "$path" -name '*
*' | head -n 1)" ] || fail unwritable "a name in $path has two lines"
        [ "$(find "$path" | head -n 65537 | wc -l)" -le 65536 ] ||
            fail unwritable "$path holds more than 65536 files"
        o=${target#owners/}
        why=$( (set -C && printf '' >"$probe" && chown "${o%%,*}" "$probe" && : >"$step/trees") 2>&1)
        ;;
    file/*)
        IFS=/ read -r word content m o g <<END
$target
END
        [ "$(sum "$new")" = "$content" ] || fail input "the content of $path arrived damaged"
        why=$( (set -C && cat "$new" >"$probe" && chown "$o:$g" "$probe" && chmod "$m" "$probe") 2>&1)
        ;;
    *) fail input "$target" ;;
    esac
    result=$?
    rm -f "$probe" 2>/dev/null
    [ "$result" = 0 ] || fail unwritable "$dir: $why"
    note_file
}

note_file() { # what `each` reads of a file
    why=$( (printf '%s\n' "$path" >"$step/$index.path" &&
        printf '%s\n' "$expected" >"$step/$index.before" &&
        printf '%s\n' "$target" >"$step/$index.target") 2>&1) || fail unwritable "$why"
    fsync "$step"/*
}

verb_activate() { # GENERATION NUMBER SECONDS
    # A connection that ends meanwhile must not end this halfway.
    trap '' HUP INT PIPE
    at "$1" "$2"
    digits "$3"
    holds
    load
    state
    [ "$state" = staged ] || fail state "transaction $number of generation $generation is $state"
    each unmoved
    why=$( (printf '%s %s\n' "$$" "$(started $$)" | put "$step/activating") 2>&1) || fail unwritable "$why"
    [ ! -e "$step/decision" ] || fail decided 'the transaction was put back before it began'
    why=$(each remember 2>&1) || {
        rm -f "$step/activating"
        fail unwritable "no pre-images can be recorded: $why"
    }
    start_watchdog "$3" || {
        rm -f "$step/activating"
        fail watchdog 'no watchdog can be started'
    }
    set_state active || {
        rm -f "$step/activating"
        fail unwritable "$step/state"
    }
    why=$( (each change && restart_units) 2>&1) || {
        begin_revert failed "it could not be activated: $why"
        rm -f "$step/activating"
        [ -z "${trouble:-}" ] || fail revert "${why:-it was put back}; these could not be put back:$trouble"
        fail activate "${why:-it was put back meanwhile}"
    }
    rm -f "$step/activating"
    [ ! -e "$step/decision" ] || fail decided 'the transaction was put back while it was activated'
}

verb_commit() { # GENERATION NUMBER
    at "$1" "$2"
    load
    state
    case $state in
    active | committed) ;;
    staged) fail state 'nothing was activated' ;;
    *) fail decided "$(first_line "$step/why")" ;;
    esac
    follow_up
    decide commit
    [ "$decision" = commit ] || fail decided 'it is being put back'
    set_state committed || fail unwritable "$step/state"
}

verb_revert() { # GENERATION NUMBER active|committed; why in a line
    trap '' HUP INT PIPE
    at "$1" "$2"
    line
    load
    state
    case $state in
    reverted) return ;;
    committed)
        [ "$3" = committed ] || fail decided 'it is committed'
        each left_alone
        rm -f "$step/decision"
        ;;
    esac
    begin_revert asked "$line" 2>/dev/null
    case $? in
    0) ;;
    2) fail decided 'it is committed' ;;
    *) fail revert "these could not be put back:${trouble:-the state of the transaction}" ;;
    esac
}

verb_secret() { # a file that holds keys, as hexadecimal digits; its path in a line
    line
    path=$line
    holds
    [ ! -L "$path" ] && [ -f "$path" ] || fail unknown 'it is no regular file'
    [ "$(stat -c %s "$path")" -le 131072 ] || fail unknown 'it is larger than 131072 bytes'
    od -An -v -tx1 <"$path" 2>/dev/null || fail unknown 'it cannot be read'
}

verb_replace() { # SHA256 of what shall be there; in a line each its path and the SHA256 of what is, or absent; then all of it
    # No pre-image is kept: a key that is dropped shall be gone. The rename makes it whole or nothing.
    line
    path=$line
    line
    expected=$line
    holds
    case $path in /*) ;; *) fail input 'no path' ;; esac
    parent "$path"
    if [ ! -L "$path" ] && [ ! -e "$path" ] && [ "$expected" = absent ]; then
        (umask 077 && mkdir -p "$dir") 2>/dev/null || fail unwritable "$dir: it cannot be made"
    else
        [ ! -L "$path" ] && [ -f "$path" ] || fail moved "$path: it is no regular file"
        content=$(sum "$path")
        [ "$content" != "$1" ] || return 0
        [ "$content" = "$expected" ] || fail moved "$path: it is not what it was"
    fi
    rm -f "${dir%/}"/.harden.keys.*
    temp=${dir%/}/.harden.keys.$$
    if (set -C && cat >"$temp") 2>/dev/null && [ "$(sum "$temp")" = "$1" ] && chown 0:0 "$temp" &&
        chmod 0600 "$temp" && fsync "$temp" && mv -f "$temp" "$path" && fsync "$dir"; then
        return 0
    fi
    rm -f "$temp"
    fail unwritable "$path: it cannot be written"
}

verb_erase() { # in a line each the path of a file that holds keys and the SHA256 of what is there
    line
    path=$line
    line
    expected=$line
    holds
    case $path in /*) ;; *) fail input 'no path' ;; esac
    parent "$path"
    [ -L "$path" ] || [ -e "$path" ] || return 0
    [ ! -L "$path" ] && [ -f "$path" ] || fail moved "$path: it is no regular file"
    [ "$(sum "$path")" = "$expected" ] || fail moved "$path: it is not what it was"
    rm -f "$path" "${dir%/}"/.harden.keys.* && fsync "$dir" || fail unwritable "$path: it cannot be removed"
}

verb_status() { # GENERATION NUMBER
    at "$1" "$2"
    state
    printf '%s %s\n' "${state:-none}" "$(first_line "$step/why")"
}

main() {
    if [ "${1:-}" = watch ]; then
        at "$2" "$3"
        load
        watch "$4"
    fi
    IFS= read -r line || exit 2
    case $line in
    'harden-transaction 1 '*) ;;
    *) exit 2 ;;
    esac
    # Words of digits and letters only: nothing to expand but the spaces between them.
    case $line in *[!a-z0-9\ -]*) exit 2 ;; esac
    set -f
    # shellcheck disable=SC2086
    set -- $line
    set +f
    nonce=$3
    holder=$4
    verb=$5
    shift 5
    printf '\nharden-begin %s\n' "$nonce"
    case $verb in
    lock | unlock | who | put | read | list | begin | stage | activate | commit | revert | status | secret | replace | erase)
        "verb_$verb" "$@"
        ;;
    *) fail input "there is no verb $verb" ;;
    esac
    printf 'ok\n'
    finish 0
}

main "$@"
