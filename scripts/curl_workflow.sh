#!/usr/bin/env bash
# The whole workflow with curl alone: upload, fine-tune, events, completion.
#
#   tunesmith serve                                  # in another terminal
#   scripts/curl_workflow.sh train.jsonl ada "I love it ->"
#
# OPENAI_BASE_URL (default http://127.0.0.1:8712/v1) says where, OPENAI_API_KEY with what key.
set -euo pipefail

training_file=${1:?usage: curl_workflow.sh TRAINING_FILE.jsonl [MODEL] [PROMPT]}
model=${2:-ada}
prompt=${3:-"I love it ->"}
base=${OPENAI_BASE_URL:-http://127.0.0.1:8712/v1}
auth="Authorization: Bearer ${OPENAI_API_KEY:-any}"

# field NAME < JSON: the value of a top-level field.
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
# object NAME VALUE …: a JSON object of strings, quoted as JSON wants it.
object() { python3 -c 'import json, sys; a = sys.argv[1:]; print(json.dumps(dict(zip(a[::2], a[1::2]))))' "$@"; }
call() { curl --silent --show-error --fail-with-body -H "$auth" "$@"; }

echo "1. Upload $training_file"
file_id=$(call "$base/files" -F purpose=fine-tune -F "file=@$training_file" | field id)
echo "   $file_id"

echo "2. Create a fine-tune"
job_id=$(call "$base/fine-tunes" -H "Content-Type: application/json" \
    -d "$(object training_file "$file_id" model "$model")" | field id)
echo "   $job_id"

echo "3. Follow its events until it ends"
call --no-buffer "$base/fine-tunes/$job_id/events?stream=true"

echo "4. The fine-tuned model"
job=$(call "$base/fine-tunes/$job_id")
status=$(field status <<<"$job")
if [[ $status != succeeded ]]; then
    echo "   the job is $status" >&2
    exit 1
fi
fine_tuned_model=$(field fine_tuned_model <<<"$job")
echo "   $fine_tuned_model"

echo "5. Ask it"
call "$base/completions" -H "Content-Type: application/json" \
    -d "$(python3 -c 'import json, sys
print(json.dumps({"model": sys.argv[1], "prompt": sys.argv[2], "max_tokens": 1, "temperature": 0, "logprobs": 2}))' \
        "$fine_tuned_model" "$prompt")"
echo
