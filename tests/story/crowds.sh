#!/usr/bin/env bash
# Crowds of idle, flapping, deaf and greedy initiators keep nobody out and cost bounded memory.
. "$(dirname "$0")/../lib/story.sh"

disk_make source.img 64
edge_journal=2G
onprem_conf disk1 "file:$stage/source.img"
# As a shell starts it: the edge needs more files than that.
ulimit -Sn 1024
edge_start
onprem_start
vm_create vm1 disk1
act "2,000 connections that do not log in"
play idle_crowd
act "3,000 logins"
play logins
act "an initiator that never reads, one whose line flaps 1,000 times"
play never_reads
play resets_of_the_line
act "ten sessions that write more than there is memory for"
play more_writers_than_memory
play one_greedy_writer
play ping_under_load
stop edge
stop onprem
