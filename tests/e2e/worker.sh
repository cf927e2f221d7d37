# A worker for tests: writes down when it starts and ends, and sleeps in between as its item says ("fail" fails every
# time, "fail_once" only the first).
# Its only programs are the shell's own and sleep, so that hundreds of them start in a moment.
file="$BURST_ITEMS_DIR/$JOB_COMPLETION_INDEX.json"
text=$(cat "$file")
item=${text#*'"id": "'}; item=${item%%'"'*}
seconds=${text#*'"seconds":'}; seconds=${seconds%%[,\}]*}
now() { read -r up _ < /proc/uptime; echo "$up"; }
printf '{"event":"start","item":"%s","pid":%s,"at":%s,"attempt":%s}\n' "$item" $$ "$(now)" "$BURST_ATTEMPT" >> "$RUN_LOG"
sleep "$seconds"
case "$text" in
    *'"fail":true'*) ok=false ;;
    *'"fail_once":true'*) if [ -e "$RUN_LOG.$item" ]; then ok=true; else : > "$RUN_LOG.$item"; ok=false; fi ;;
    *) ok=true ;;
esac
printf '{"event":"end","item":"%s","pid":%s,"at":%s,"ok":%s}\n' "$item" $$ "$(now)" "$ok" >> "$RUN_LOG"
[ "$ok" = true ] || { echo "this item was told to fail" >&2; exit 1; }
