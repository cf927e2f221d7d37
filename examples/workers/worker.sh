#!/bin/sh
# A worker for pods that carry several items, in plain shell: worker.sh COMMAND [ARGS...]
# It needs curl and openssl. What it leaves out, the kit has: the end of the log, the pod's deadline, what a run leaves
# behind, and that the next item starts while a report is still on its way.
set -u
items=${BURST_ITEMS_DIR:-/var/run/burst/items}
reports=${BURST_REPORTS_DIR:-/var/run/burst/reports}

part() { tr ';' '\n' <"$reports/connection-string" | sed -n "s/^$1=//p"; }
escaped() { sed 's/+/%2B/g; s,/,%2F,g; s/=/%3D/g; s/:/%3A/g'; }

send() { # body, message id: until it is accepted, for about four minutes
    tries=0
    while [ "$tries" -lt 30 ]; do
        scheme=https
        [ "$(part UseDevelopmentEmulator)" = true ] && scheme=http
        url="$scheme://$(part Endpoint | sed 's,^sb://,,; s,/*$,,')/$(part EntityPath)"
        resource=$(printf %s "$url" | escaped)
        expiry=$(($(date +%s) + 3600))
        signature=$(printf '%s\n%s' "$resource" "$expiry" |
            openssl dgst -sha256 -hmac "$(part SharedAccessKey)" -binary | base64 | escaped)
        token="SharedAccessSignature sr=$resource&sig=$signature&se=$expiry&skn=$(part SharedAccessKeyName)"
        status=$(printf %s "$1" | curl --silent --max-time 15 --output /dev/null --write-out '%{http_code}' \
            --header "Authorization: $token" --header 'Content-Type: application/json' \
            --header "BrokerProperties: {\"MessageId\": \"$2\"}" --data-binary @- "$url/messages")
        [ "$status" = 201 ] && return 0
        echo "a report was not taken ($status)" >&2
        tries=$((tries + 1))
        sleep $((tries < 8 ? tries : 8))
    done
    return 1
}

stop=no
trap 'stop=yes' TERM INT # the item under way comes to its end first
untold=0
position=$JOB_COMPLETION_INDEX
while [ -e "$items/$position.json" ] && [ "$stop" = no ]; do
    item="$items/$position.json"
    JOB_COMPLETION_INDEX=$position timeout "${BURST_ITEM_TIMEOUT:-600}" "$@"
    code=$?
    case $code in
    0) outcome=done cause= ;;
    124) outcome=failed cause='"cause": "item_timeout", ' ;;
    126 | 127) outcome=failed cause='"cause": "template", ' ;;
    *) outcome=failed cause='"cause": "application", ' ;;
    esac
    # The item's own fields stand before its params, and quotes inside texts are escaped: the first match is the field.
    named=$(grep -o '"\(queue\|digest\)": "[^"]*"\|"sequence_number": [0-9]*' "$item" | head -n 3 | tr '\n' ',')
    body="{\"format\": 1, \"batch\": \"$BURST_BATCH\", \"attempt\": $BURST_ATTEMPT, \"pod\": \"$BURST_POD_UID\", "
    body="$body\"position\": $position, $named \"outcome\": \"$outcome\", $cause\"exit_code\": $code}"
    send "$body" "$BURST_BATCH-$BURST_ATTEMPT-$BURST_POD_UID-$position-$outcome" || untold=$((untold + 1))
    position=$((position + BURST_PODS))
done
[ "$untold" = 0 ]
