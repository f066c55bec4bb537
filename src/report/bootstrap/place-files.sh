#!/bin/sh
# Puts what `files.tsv` lists on this node, before it starts Kubernetes for the first time.
#
#   sh place-files.sh control-plane|worker [ROOT]
#
# ROOT is where the node's file system is, / unless given: an image that is being built, for example.
# Runs as root; doing it twice is the same as doing it once. This text is always the same: what to do
# is data in `files.tsv`, and no word of that is ever run.

set -eu
umask 077
LC_ALL=C
export LC_ALL

usage() {
    echo 'usage: sh place-files.sh control-plane|worker [ROOT]' >&2
    exit 2
}

case ${1-} in
    control-plane | worker) role=$1 ;;
    *) usage ;;
esac
[ $# -le 2 ] || usage
root=${2-}
root=${root%/}
case $root in
    '' | /*) ;;
    *) root=$PWD/$root ;;
esac
CDPATH='' cd -- "$(dirname -- "$0")"
tab=$(printf '\t')

while IFS=$tab read -r nodes kind mode owner group source target; do
    case $nodes in
        "$role" | every) ;;
        *) continue ;;
    esac
    target=$root$target
    case $kind in
        directory)
            [ -d "$target" ] || mkdir -p -- "$target"
            chmod -- "$mode" "$target"
            chown -- "$owner:$group" "$target"
            ;;
        file | sysctl)
            above=${target%/*}
            [ -d "$above" ] || mkdir -p -- "$above"
            # Whole or not at all, and never readable by others on the way.
            new=$above/.harden.$$
            cat -- "$source" >"$new"
            chmod -- "$mode" "$new"
            chown -- "$owner:$group" "$new"
            mv -f -- "$new" "$target"
            if [ "$kind" = sysctl ] && [ -z "$root" ]; then
                sysctl -q -p "$target"
            fi
            ;;
        *)
            echo "files.tsv: $kind is neither a file, a sysctl nor a directory" >&2
            exit 1
            ;;
    esac
    printf '%s\n' "$target"
done <files.tsv
