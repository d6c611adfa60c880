# Runs inside the machine under test: the test binaries in /tests, then static programs natively and under the launcher,
# whose output and exit status must agree. ROOT is the folder that holds it all, empty for /. Prints "pass NAME" or
# "FAIL NAME" for each check; libtest prints its own lines.

# What hangs is named, and the rest still runs. On a busy host the longest takes a minute.
limit="timeout -s KILL 200"

# There is no compiler here.
export PICOVISOR_TEST_OBJECTS="$ROOT/objects"

for binary in "$ROOT"/tests/*; do
  [ -x "$binary" ] || continue # a list of filters
  echo "binary ${binary##*/}"
  $limit "$binary" $(cat "$binary.filters" 2>/dev/null) --test-threads="${THREADS:-1}"
  echo "status $? ${binary##*/}"
done

output=${TMPDIR:-/tmp}/checks.$$

# check NAME COMMAND...
check() {
  name=$1
  shift
  $limit "$@" >$output.native 2>/dev/null </dev/null
  native=$?
  $limit "$ROOT"/bin/picovisor run -- "$@" >$output.ours 2>$output.errors </dev/null
  ours=$?
  if [ $native = $ours ] && cmp -s $output.native $output.ours; then
    echo "pass $name"
  else
    echo "FAIL $name"
    echo "  natively: status $native; under us: status $ours"
    diff $output.native $output.ours | head -n 10 | sed 's/^/  /'
    head -n 5 $output.errors | sed 's/^/  /'
  fi
}

if [ -x "$ROOT/bin/picovisor" ]; then
  for program in hello clocks vdso faults frames getrandom mappings signals simd; do
    check launcher-$program "$ROOT"/programs/$program
  done
  check launcher-arguments "$ROOT"/programs/hello 3 "two words" ""
  for way in segv ill fpe trap abort text stack bad-return; do
    check launcher-death-$way "$ROOT"/programs/death $way
  done
  check launcher-reserve "$ROOT"/programs/memory reserve
  check launcher-echo /bin/busybox echo one "two three" ""
  check launcher-status /bin/busybox false
  check launcher-sha256 /bin/busybox sha256sum /bin/busybox
  check launcher-sort /bin/busybox sort -r "$ROOT"/etc/words
  check launcher-list /bin/busybox ls -l "$ROOT"/programs
fi
rm -f $output.*
