#!/bin/sh
# A stand-in for ipmitool: the BMC's state is in the folder in which this file is linked.
# It understands what the man page of ipmitool says of -I -H -p -U -E -N -R -L -C and of `chassis power`.
here=$(dirname "$0")
echo "$@" >> "$here/arguments"

while [ $# -gt 0 ]; do
    case $1 in
        -I|-H|-p|-N|-R|-L|-C) shift 2 ;;
        -U) user=$2; shift 2 ;;
        -E) password=$IPMI_PASSWORD; shift ;;
        *) break ;;
    esac
done

no_session() {
    echo "Error: Unable to establish IPMI v2 / RMCP+ session" >&2
    exit 1
}

fault=$(cat "$here/fault")
case $fault in
    silent) sleep 60; no_session ;;
    gone) no_session ;;
    slow) sleep 0.4 ;;
    loses)
        if [ -e "$here/lost" ]; then rm "$here/lost"; else : > "$here/lost"; no_session; fi ;;
esac
if [ "$user" != ADMIN ] && [ "$user" != viewer ]; then
    echo "RAKP 2 message indicates an error : unauthorized name" >&2
    no_session
fi
if [ "$password" != "se cret" ]; then
    echo "> RAKP 2 HMAC is invalid" >&2
    no_session
fi

now() { date +%s%N; }

switch() {
    if [ "$user" = viewer ]; then
        echo "Set Chassis Power Control to $2 failed: Insufficient privilege level" >&2
        exit 1
    fi
    old=$(cat "$here/power")
    if [ "$fault" = lies ] && [ "$old" != "$1" ]; then
        echo "$(( $(now) + 3000000000 )) $old" > "$here/lie"
    fi
    echo x >> "$here/commands"
    echo "$1" > "$here/power"
    echo "Chassis Power Control: $2"
}

case $* in
    "chassis power status")
        power=$(cat "$here/power")
        if [ -e "$here/lie" ]; then
            read -r until old < "$here/lie"
            if [ "$(now)" -lt "$until" ]; then power=$old; fi
        fi
        echo "Chassis Power is $power" ;;
    "chassis power on") switch on Up/On ;;
    "chassis power off") switch off Down/Off ;;
    *) echo "Invalid command: $*" >&2; exit 1 ;;
esac
