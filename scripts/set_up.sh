#!/bin/sh
# Makes what `make run` (the argument "run") or `make test` ("test") needs, one at a time in a folder, and does nothing
# where another make has just done it. Called by the Makefile with VENV and PYTHON in the environment.
set -u
stamp=$VENV/.$1
case $1 in
	run) lock=requirements.lock ;;
	*) lock=requirements-dev.lock ;;
esac

stop() {
	echo "$1"
	exit 1
}

fresh() { [ "$stamp" -nt "$lock" ] && [ "$stamp" -nt Makefile ] && [ "$stamp" -nt "$0" ]; }

[ -w . ] || stop "Nothing was set up: $PWD cannot be written to by this user; make a clone of your own."
[ ! -e "$VENV" ] || [ -w "$VENV" ] || stop "Nothing was set up: $PWD/$VENV belongs to another user; make a clone of your own."
if command -v flock >/dev/null; then
	exec 9>>"$VENV.lock" # outside of the environment, which is cleared when it is made anew
	flock -n 9 || { echo "Another make is setting up here; waiting for it …" && flock 9; }
	fresh && exit 0
fi

install() {
	# The locks are complete, so nothing is resolved; wheels only, so nothing is built.
	"$VENV/bin/python" -m pip --disable-pip-version-check install -qq --no-deps --only-binary :all: --require-hashes \
		-r "$1" || stop "Setting up stopped: the packages could not be installed; check the network (and PIP_INDEX_URL, HTTPS_PROXY) and run make again, it goes on from here."
}

if [ "$1" = test ]; then
	install "$lock"
	touch "$stamp"
	exit 0
fi

# An environment without pip (uv makes such) or whose Python is gone (an upgrade of the system) is made anew.
if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
	[ -n "$PYTHON" ] || stop "No Python 3.11 or later with venv was found; on Debian: sudo apt-get install python3 python3-venv"
	"$PYTHON" -m venv --clear "$VENV" ||
		stop "Nothing was set up: $PYTHON could not make an environment in $PWD/$VENV; see the lines above."
fi
echo "Setting up (only this once, it takes a minute or two) …"
install "$lock"
# The code is put on the path by a .pth file and started by a script of a few lines: installing the project itself would
# need a build. Both find it from where they lie, so that the folder may be moved or renamed.
"$VENV/bin/python" -c 'import os, pathlib, sysconfig
site = pathlib.Path(sysconfig.get_path("purelib"))
(site / "inference_lab.pth").write_text(os.path.relpath(".", site) + "\n")'
cat >"$VENV/bin/lab" <<'END'
#!/bin/sh
exec "$(dirname "$(readlink -f "$0")")/python" -P -m app.cli "$@"
END
chmod +x "$VENV/bin/lab"
"$VENV/bin/python" -m compileall -q app pages services db
touch "$stamp"
