# Compiles the shared objects of the tests into a folder: build.sh FOLDER. The emulated machine has no compiler, so its suite
# runs this ahead.
set -e
here=$(dirname "$0")
compile() {
  output=$1
  shift
  # Under another name first: somebody may be compiling, or loading, the same.
  ${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fvisibility=hidden -fPIC \
    -shared -nostdlib -Wl,--build-id=none -I "$here/../../include" -o "$output.$$" "$@"
  mv -f "$output.$$" "$output"
}
# Constructors write to this descriptor: which shows that code has run.
compile "$1/script.so" -DWITNESS=911 "$here/script.c"
compile "$1/noentry.so" -DNO_ENTRY "$here/script.c"
compile "$1/libneeded.so" "$here/needed.c"
compile "$1/needs.so" -DWITNESS=911 "$here/script.c" -L "$1" -Wl,--no-as-needed -lneeded
