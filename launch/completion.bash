# shellcheck shell=bash
# Completion of epmoe for bash: commands and options as the program's own --help lists them, else
# files. cmake --install puts it where bash-completion looks; by hand: source launch/completion.bash
_epmoe() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words
    if [ "$COMP_CWORD" -eq 1 ]; then
        words=$("$1" help 2>/dev/null | sed -n 's/^  \([a-z][a-z]*\) .*/\1/p')" help version"
    elif [[ $word == -* ]]; then
        words=$("$1" help "${COMP_WORDS[1]}" 2>/dev/null | grep -oE -- '^ +(-[A-Za-z], )?--[a-z-]+' | grep -oE -- '--[a-z-]+')
    else # a choice such as auto|f32|f16|bf16 stands behind the option in its help
        words=$("$1" help "${COMP_WORDS[1]}" 2>/dev/null |
            sed -nE "s/^ +(-[A-Za-z], )?$before ([a-z0-9.-]+(\|[a-z0-9.-]+)+).*/\2/p" | tr '|' ' ')
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -o default -F _epmoe epmoe
