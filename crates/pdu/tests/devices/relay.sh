#!/bin/sh
# A relay card as a person would script it: `relay on|off|state ID`, `relay list`. Its state is in the folder in which
# this file is linked: a file for each outlet.
here=$(dirname "$0")
verb=$1 id=$2

fault=$(cat "$here/fault")
case $fault in
    silent) sleep 60 ;;
    slow) sleep 0.4 ;;
    loses)
        if [ -e "$here/lost" ]; then rm "$here/lost"; else : > "$here/lost"; echo "lost" >&2; exit 1; fi ;;
esac
if [ "$RELAY_TOKEN" != "se cret" ]; then
    echo "the token $RELAY_TOKEN is wrong" >&2
    exit 2
fi

now() { date +%s%N; }

case $verb in
    list) cat "$here/labels" ;;
    on|off)
        # Both ways to learn the id say the same.
        [ "$id" = "$FARMGATE_PORT" ] || exit 3
        old=$(cat "$here/outlet-$id")
        if [ "$fault" = lies ] && [ "$old" != "$verb" ]; then
            echo "$(( $(now) + 3000000000 )) $old" > "$here/lie-$id"
        fi
        echo x >> "$here/commands"
        echo "$verb" > "$here/outlet-$id" ;;
    state)
        state=$(cat "$here/outlet-$id") || exit 4
        if [ -e "$here/lie-$id" ]; then
            read -r until old < "$here/lie-$id"
            if [ "$(now)" -lt "$until" ]; then state=$old; fi
        fi
        echo "$state" ;;
    *) echo "usage: relay on|off|state ID, relay list" >&2; exit 64 ;;
esac
