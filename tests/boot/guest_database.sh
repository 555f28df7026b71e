#!/usr/bin/env bash
# Runs in the guest of boot_database.sh, after guest.sh. The host writes before both:
#   check=1     look at what the round before has left: file systems, the database, fio's files; told="NUMBER TIME
#               ..." says when it had fsynced which
#   load=1      then load both disks until the machine dies: an SQLite database on the data disk, fio's files on the root
#   number=N    of fio's first file
#   journal=J   SQLite's journal mode
# What is told, always to END:
#   ROW id time chain    SQLite has committed that row; chain hashes all rows up to it
#   FIO number time      fio's file of that number is written and fsynced
#   FOUND id time chain  the newest row that the check has found (0 if there are none)
# Times are the guest's clock, seconds.
dmesg --console-level 1

check=${check:-} load=${load:-} told=${told:-} number=${number:-1} journal=${journal:-wal}
disk=/dev/disk/by-label/data folder=/var/lib/load accounts=1000

# fio_file NUMBER [options]: a file that its number alone describes.
fio_file() {
    local number=$1
    shift
    fio --name=load --filename="$folder/$number" --rw=randwrite --bs=4k --size=2M --ioengine=psync --randseed="$number" \
        --verify=crc32c --verify_fatal=1 --verify_state_save=0 "$@" >/run/fio.out 2>&1
}

# --- what a round has left ---

# The root: the kernel has replayed its journal, then systemd had it checked whole before it was written to (the host has
# seen to that). What was deleted but open may have been freed; anything else is damage.
root_clean() {
    local said
    said=$(journalctl -b -o cat -u systemd-fsck-root | grep '^root') || return 1
    echo "$said"
    grep -q 'check forced' <<<"$said" && grep -qE '^root: [0-9]+/[0-9]+ files' <<<"$said" &&
        ! grep -vE 'check forced|^root: ([0-9]+/[0-9]+ files|Clearing orphaned inode)' <<<"$said"
}
# The data disk: its journal is replayed by a mount, then nothing may be amiss.
data_clean() {
    mount "$disk" /mnt && umount /mnt && e2fsck -f -n "$disk"
}
ask() { sqlite3 /mnt/db "$1"; }
# All rows from the first on, none altered, and in step with what the same transactions changed elsewhere.
database_whole() {
    [ "$(ask 'PRAGMA integrity_check')" = ok ] &&
        [ "$(ask 'SELECT count(*) - coalesce(max(id), 0) FROM row')" = 0 ] &&
        [ "$(ask 'SELECT sum(changes) - (SELECT count(*) FROM row) FROM account')" = 0 ] &&
        [ "$(ask "SELECT count(*) FROM (SELECT chain, hex(sha3(coalesce(lag(chain) OVER (ORDER BY id), '') || id ||
            hex(payload))) AS want FROM row) WHERE chain IS NOT want")" = 0 ]
}
# fio keeps its last 8 files; those fsynced before the newest row was written are there, whole.
files_whole() {
    local newest first file
    newest=$(ask 'SELECT max(at) FROM row')
    read -r first file < <(awk -v newest="$newest" '$2 < newest { if (!n++) first = $1; last = $1 } END { print first, last }' <<<"$told")
    [ -n "$file" ] || { echo "fio had fsynced nothing"; return 1; }
    [ $((file - first)) -lt 7 ] || first=$((file - 6))
    echo "fio's files $first to $file"
    for ((; first <= file; first++)); do
        fio_file "$first" --verify_only || { tail -n 5 /run/fio.out; return 1; }
    done
    # And it would find 16 bytes that are others.
    dd if=/dev/zero of="$folder/$file" bs=16 count=1 seek=600 conv=notrunc status=none
    ! fio_file "$file" --verify_only
}
check_all() {
    checks "the root file system" root_clean
    checks "the data file system" data_clean
    mount "$disk" /mnt
    checks "the database" database_whole
    ask "SELECT printf('FOUND %d %.3f %s END', max(id), at, chain) FROM row"
    checks "fio's files" files_whole
    all_told
}

# --- the load ---

load_fio() {
    local file=$number
    rm -rf "$folder"
    mkdir "$folder"
    while fio_file "$file" --do_verify=0 --end_fsync=1; do
        echo "FIO $file $(date +%s.%3N) END"
        rm -f "$folder/$((file - 8))"
        file=$((file + 1))
    done
    fail "fio: $(cat /run/fio.out)"
}
load_sqlite() {
    {
        echo "PRAGMA synchronous = FULL;
            CREATE TABLE IF NOT EXISTS row(id INTEGER PRIMARY KEY, at REAL, payload BLOB, chain TEXT);
            CREATE TABLE IF NOT EXISTS account(id INTEGER PRIMARY KEY, changes INTEGER, fill BLOB);
            INSERT OR IGNORE INTO account SELECT value, 0, NULL FROM generate_series(1, $accounts);"
        while :; do
            echo "BEGIN IMMEDIATE;
                INSERT INTO row(at, payload) VALUES ((julianday('now') - 2440587.5) * 86400, randomblob(100 + abs(random()) % 4000));
                UPDATE row SET chain = hex(sha3(coalesce((SELECT chain FROM row AS old WHERE old.id = row.id - 1), '') || id ||
                    hex(payload))) WHERE id = last_insert_rowid();
                UPDATE account SET changes = changes + 1, fill = randomblob(200) WHERE id = 1 + last_insert_rowid() * 7919 % $accounts;
                COMMIT;
                SELECT printf('ROW %d %.3f %s END', id, at, chain) FROM row WHERE id = last_insert_rowid();"
        done
    } | sqlite3 -bail /mnt/db
    fail "sqlite3 ended"
}

if [ -n "$check" ]; then
    check_all || exit 1
else
    mount "$disk" /mnt
fi
if [ -n "$load" ]; then
    # What is deleted is trimmed.
    mount -o remount,discard / && mount -o remount,discard /mnt
    sqlite3 /mnt/db "PRAGMA journal_mode = $journal"
    echo "LOADING"
    load_fio &
    load_sqlite
fi
