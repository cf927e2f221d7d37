# What stands between the embedded cluster and one worker: it outlives the dispatcher and keeps the pod's account.
#
#   sh -c <this text> burst-pod FOLDER CLAIM STOP_IN GRACE LN SLEEP COMMAND [ARGS...]
#
# It leads a session and process group of its own. Its notes are symbolic links whose target is the text: making one
# is atomic, needs no room for data on a full disk, and fails if the note is there already, so the first one counts.
folder=$1 claim=$2 stop_in=$3 grace=$4 ln=$5 sleep=$6
shift 6

note() { "$ln" -s "$2" "$folder/$1" 2>/dev/null; }

start_tick() {  # field 22 of stat, counted from behind the name in brackets
    read -r stat </proc/$$/stat 2>/dev/null || { echo -; return; }
    set -- ${stat##*) }
    echo "${20}"
}

boot=-
[ -r /proc/sys/kernel/random/boot_id ] && read -r boot </proc/sys/kernel/random/boot_id

# The claim: whoever makes it runs the pod. A controller that recovers competes for the same name.
note "$claim" "$$ $(start_tick) $boot" || exit 0

trap : TERM  # the worker is told, this waits for it and writes down how it ended

if [ "$stop_in" != - ]; then
    (
        trap '' TERM
        "$sleep" "$stop_in"
        note stopping now
        kill -TERM 0
        "$sleep" "$grace"
        note outcome "137 stopped"
        kill -KILL 0
    ) &
fi

"$@"
code=$?

how=exited
[ -L "$folder/stopping" ] && how=stopped
until note outcome "$code $how"; do
    [ -L "$folder/outcome" ] && break
    [ -d "$folder" ] || break
    "$sleep" 1
done
kill -KILL 0  # a pod ends as a whole: whatever the worker left behind, and this
