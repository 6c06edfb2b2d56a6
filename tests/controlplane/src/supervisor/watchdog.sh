# Ends what its owner started, once the owner is gone for whatever reason.
#
# Arguments: the directory to remove. Standard input: a pipe whose write end only the owner holds; it is closed by the
# kernel also when the owner panics or is killed. Lines: "add GROUP", "remove GROUP", "keep DIRECTORY" (where the logs go).
trap '' HUP INT TERM

groups=''
keep=''
while read -r word value; do
    case $word in
    add) groups="$groups $value" ;;
    remove)
        others=''
        for group in $groups; do
            [ "$group" = "$value" ] || others="$others $group"
        done
        groups=$others
        ;;
    keep) keep=$value ;;
    esac
done

# No grace: the state of these processes is about to be removed with them.
for group in $groups; do
    kill -s KILL -- "-$group" 2>/dev/null
done

if [ -n "$keep" ]; then
    mkdir -p "$keep" && cp -R "$1/logs/." "$keep/"
fi

# A process that is being killed may still create a file in a folder that is being removed: try again for 10 s.
tries=0
while [ "$tries" -lt 100 ]; do
    rm -rf -- "$1" 2>/dev/null
    [ -e "$1" ] || exit 0
    tries=$((tries + 1))
    sleep 0.1
done
exit 1
