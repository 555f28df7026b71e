#!/usr/bin/env bash
# Runs in the guest of boot_pair.sh, after guest.sh. Its root is a multipath map of both edges. The host writes before both:
#   rows=N     so many rows of the database were committed before this boot: they are there
#   load=1     SQLite with synchronous=FULL and fio, which verifies what it wrote, work on the root until the host listens
#              at port 9 (of 10.0.2.2)
# What is told, always to END: ROW n (SQLite has committed so many), PASS n (fio has verified that file),
# PATHS n (so many work), CHECKED n FAILURES n.
dmesg --console-level 1

rows=${rows:-0} load=${load:-}
folder=/var/lib/load database=/var/lib/load/db

ask() { sqlite3 "$database" "$1"; }

root_is_multipath() { [[ $(dmsetup ls --target multipath | wc -l) = 1 && $(findmnt -no SOURCE /) = /dev/mapper/* ]]; }
paths() { multipathd show paths format '%t %o' | grep -c '^active running'; }
paths_up() { [ "$(paths)" = 2 ]; }
# soon SECONDS command...: until it succeeds.
soon() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -le "$end" ] || return 1
        sleep 1
    done
}
# What a file system, or one who reads and writes files, would have been told of.
kernel_complains() { dmesg | grep -E 'EXT4-fs (error|warning)|Buffer I/O error|I/O error, dev dm-|Remounting filesystem read-only'; }

# Says when the number of paths changes; and, while one stays away, what iscsid says of it.
watch_paths() {
    local n last="" away=0
    while sleep 2; do
        n=$(paths)
        [ "$n" = "$last" ] || { echo "PATHS $n END"; last=$n away=0; }
        [ "$n" = 2 ] || [ $((++away % 15)) != 0 ] || journalctl -u iscsid -n 12 --no-pager
    done
}

work_fio() {
    local n=1
    while fio --name=work --filename="$folder/file" --rw=randwrite --bs=4k --size=8M --ioengine=psync --randseed="$n" \
        --verify=crc32c --verify_fatal=1 --verify_state_save=0 --end_fsync=1 >/run/fio.out 2>&1; do
        echo "PASS $n END"
        n=$((n + 1))
    done
    fail "fio: $(cat /run/fio.out)"
    touch /run/failed
}
work_sqlite() {
    while [ ! -e /run/enough ]; do
        ask "PRAGMA synchronous = FULL; INSERT INTO row(payload) VALUES (randomblob(2000));
            SELECT printf('ROW %d END', max(id)) FROM row" || { fail "sqlite3"; touch /run/failed; return; }
    done
}
host_has_enough() { (exec 3<>/dev/tcp/10.0.2.2/9) 2>/dev/null; }

multipath -ll
checks "a root on a multipath map" root_is_multipath
checks "two paths" soon 60 paths_up
if [ "$rows" != 0 ]; then
    checks "$rows rows" test "$(ask 'SELECT count(*) FROM row')" -ge "$rows"
fi
if [ -n "$load" ]; then
    mkdir -p "$folder"
    ask 'CREATE TABLE IF NOT EXISTS row(id INTEGER PRIMARY KEY, payload BLOB)'
    echo LOADING
    work_fio &
    fio=$!
    work_sqlite &
    sqlite=$!
    watch_paths &
    until host_has_enough || [ -e /run/failed ]; do sleep 1; done
    touch /run/enough
    wait "$sqlite"
    kill "$fio" $!
    wait
    checks "no work to fail" refuse test -e /run/failed
    checks "two paths again" soon 120 paths_up
    multipath -ll
fi
checks "the database" test "$(ask 'PRAGMA integrity_check')" = ok
checks "a kernel without complaints" refuse kernel_complains
all_told
