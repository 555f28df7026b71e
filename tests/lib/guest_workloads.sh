#!/usr/bin/env bash
# Runs in the guest of tests/bench log, its output on the serial console: work as a VM does it, in phases. Each ends with
# a line "PHASE name"; the next begins when somebody listens on port 7999 of the host. The host writes before this text:
#   seconds=S    so long SQLite has to commit
set -euo pipefail
systemctl mask --runtime --now serial-getty@ttyS0.service >/dev/null 2>&1 || true
exec >/dev/ttyS0 2>&1
dmesg --console-level 1

seconds=${seconds:-60}
phase() {
    sync
    echo "PHASE $1"
    until (exec 3<>/dev/tcp/10.0.2.2/7999) 2>/dev/null; do
        sleep 1
    done
}

# An upgrade: packages that are installed are made into .deb files (in memory, not compressed), and dpkg unpacks them over
# themselves: each file is written anew beside the old one, synced and renamed.
upgrade() {
    local package tree debs=/run/debs
    mkdir $debs
    mount -t tmpfs -o size=600M tmpfs $debs
    for package in libc6 libssl3 perl-base systemd udev util-linux coreutils bash e2fsprogs openssh-server dpkg tar gzip \
        libsystemd0 libsqlite3-0 sqlite3 fio multipath-tools sg3-utils; do
        tree=$debs/tree
        mkdir -p $tree/DEBIAN
        dpkg -L $package | while read -r file; do [ -d "$file" ] || echo "$file"; done |
            tar -C / -cf - -T - 2>/dev/null | tar -C $tree -xf -
        dpkg -s $package | sed '/^Status:/d; /^Conffiles:/,/^[^ ]/ { /^Conffiles:/d; /^ /d }' >$tree/DEBIAN/control
        dpkg-deb -Znone -b $tree $debs/$package.deb >/dev/null
        rm -rf $tree
    done
    echo "UPGRADE $(du -cm $debs/*.deb | tail -n 1 | cut -f1) MiB of packages"
    dpkg --no-triggers --unpack --force-all $debs/*.deb >/dev/null
    umount $debs
}

# Transactions of one small row each, and an update elsewhere, synchronous=FULL.
database() {
    local end
    end=$(($(date +%s) + seconds))
    {
        echo "PRAGMA synchronous = FULL; PRAGMA journal_mode = WAL;
            CREATE TABLE row(id INTEGER PRIMARY KEY, payload BLOB);
            CREATE TABLE account(id INTEGER PRIMARY KEY, changes INTEGER, fill BLOB);
            INSERT INTO account SELECT value, 0, randomblob(200) FROM generate_series(1, 10000);"
        while [ "$(date +%s)" -lt "$end" ]; do
            for ((i = 0; i < 20; i++)); do
                echo "BEGIN IMMEDIATE;
                    INSERT INTO row(payload) VALUES (randomblob(100 + abs(random()) % 1000));
                    UPDATE account SET changes = changes + 1, fill = randomblob(200) WHERE id = 1 + last_insert_rowid() * 7919 % 10000;
                    COMMIT;"
            done
        done
        echo "SELECT 'TRANSACTIONS ' || count(*) FROM row;"
    } | sqlite3 -bail /var/lib/bench.db
}

upgrade
phase upgrade
database
phase sqlite
