"""The scripts by which shells ask taxon what may follow; Typer answers, in its own format."""

from __future__ import annotations

# Bash takes `--model=x` for three words, which are put together as if a blank stood there.
BASH = r"""_taxon_completion() {
    local IFS=$'\n' words=() at=0 current=0 word
    for word in "${COMP_WORDS[@]}"; do
        ((at++ == COMP_CWORD)) && current=${#words[@]}
        [[ $word == = ]] || words+=("$word")
    done
    COMPREPLY=($(env COMP_WORDS="${words[*]}" COMP_CWORD=$current \
        _TAXON_COMPLETE=complete_bash "$1"))
}
complete -o default -F _taxon_completion taxon"""

# Both as a file of fpath, which is run at the first question, and by `source`.
ZSH = r"""#compdef taxon
_taxon() {
    eval "$(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _TAXON_COMPLETE=complete_zsh taxon)"
}
if [[ $funcstack[1] == _taxon ]]; then
    _taxon "$@"
else
    compdef _taxon taxon
fi"""

FISH = r"""function __taxon_complete
    set --local --export _TAXON_COMPLETE complete_fish
    set --local --export _TYPER_COMPLETE_FISH_ACTION get-args
    set --local --export _TYPER_COMPLETE_ARGS (commandline --current-process --cut-at-cursor)
    set --local found (taxon)
    if test -n "$found"
        printf '%s\n' $found
    else
        __fish_complete_path (commandline --current-token)
    end
end
complete --command taxon --no-files --arguments '(__taxon_complete)'"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
