"""Texts that try to fetch something or to run: as answers, errors, names, prompts and tags."""

from __future__ import annotations


def payloads(canary: str) -> list[str]:
    """Each one asks for ``{canary}/N`` if anything of it is interpreted. All on one line."""
    forms = [
        "![a]({u})",
        '![a]({u} "t")',
        "[![a]({u})](x)",
        "<img src={u}>",
        "<img src=x onerror=fetch('{u}')>",
        "<image href={u}>",
        "<svg><image href='{u}'/></svg>",
        "<svg onload=fetch('{u}')></svg>",
        "<script>fetch('{u}');window.__pwned=1</script>",
        "<iframe src={u}></iframe>",
        "<object data={u}></object>",
        "<embed src={u}>",
        "<video poster={u} src={u} autoplay></video>",
        "<audio src={u} autoplay></audio>",
        "<link rel=stylesheet href={u}>",
        "<style>@import '{u}';*{{background:url({u})}}</style>",
        '<div style="background-image:url({u})">x</div>',
        "<base href={u}>",
        "<meta http-equiv=refresh content='0;{u}'>",
        "<form action={u}><input autofocus onfocus=this.form.submit()></form>",
        "<body background={u}>",
        "<input type=image src={u}>",
        "<table background={u}><tr><td>x</table>",
        "$\\includegraphics{{{u}}}$",
        "$$\\href{{{u}}}{{x}}$$",
        "[a]: {u} ![a]",
        "![a][b] [b]: {u}",
        "{u}",
        "<{u}>",
        "www.{bare}",
        ":material/bolt: :red[x] :streamlit: ![]({u})",
        "| ![a]({u}) | b |",
        "`![a]({u})` ![a]({u})",
        "\x1b]8;;{u}\x07x\x1b]8;;\x07",
        "<details open ontoggle=fetch('{u}')><summary>x</summary></details>",
        "<math><mtext><img src={u}></mtext></math>",
        "<picture><source srcset={u}><img></picture>",
    ]
    bare = canary.removeprefix("http://")
    return [form.format(u=f"{canary}/{number}", bare=f"{bare}/{number}") for number, form in enumerate(forms)]
