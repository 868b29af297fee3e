"""`layer completion`: the script that teaches a shell to complete `layer`."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
_HOW = {
    "bash": "layer completion bash > ~/.local/share/bash-completion/completions/layer",
    "zsh": "layer completion zsh > ~/.zfunc/_layer   (with ~/.zfunc in fpath before compinit)",
    "fish": "layer completion fish > ~/.config/fish/completions/layer.fish",
}


@click.command(epilog="\b\n" + "\n".join(f"  {how}" for how in _HOW.values()))
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a SHELL."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "layer", "_LAYER_COMPLETE").source())
