#!/usr/bin/env bash
# Tools, chat_template_kwargs and --no-thinking, on a tiny model with Qwen3's chat template.
#   tests/program/chat_templates.sh build/ci/epmoe
. "$(dirname "$0")/../rig/begin.sh"
export OMP_WAIT_POLICY=passive
cp -r tests/golden/models/moe-60 "$work/model"
cp tests/golden/chat/tokenizer.json "$work/model"
cp tests/golden/chat/templates/qwen3-0.6b.jinja "$work/model/chat_template.jinja"
timeout 900 python3 tests/program/chat_templates.py "$epmoe" "$work/model" >"$work/stderr" 2>&1
result $? "what reaches a chat template"
for command in chat serve; do # a template without the switch
    echo '{{ messages[0].content }}' >"$work/model/chat_template.jinja"
    timeout 60 "$epmoe" "$command" -m "$work/model" --no-thinking </dev/null >/dev/null 2>"$work/stderr"
    [ $? -eq 2 ] && grep -q 'reads enable_thinking, found one whose template does not' "$work/stderr"
    result $? "$command --no-thinking without the switch"
done
finish
