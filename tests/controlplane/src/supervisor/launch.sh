# Becomes a supervised process. Arguments: the program and its arguments. Standard input: the watchdog's pipe.
#
# It registers itself before it becomes the program, so there is no moment in which the program runs unknown to the
# watchdog, even if the owner is killed between the two. With the watchdog dead the write fails and nothing is started.
echo "add $$" >&0 || exit 125
exec "$@" </dev/null
