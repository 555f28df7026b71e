/* journal/kv_count.c - what the store writes for what it is given: the segments', and RocksDB's own files.
 */
#include "kv_rocks_impl.h"

#include <stdlib.h>
#include <string.h>

void count_new(struct kv_rocks *r)
{
    r->m_segments = metric_new(METRIC_COUNTER, "isthmus_journal_segment_bytes_total",
                               "Written to segment files, with what is moved.", "%s", "");
    r->m_moved = metric_new(METRIC_COUNTER, "isthmus_journal_moved_bytes_total",
                            "Written to segment files to empty others.", "%s", "");
    r->m_put = metric_new(METRIC_COUNTER, "isthmus_journal_index_put_bytes_total",
                          "Keys and values put into the index.", "%s", "");
    r->m_written = metric_new(METRIC_COUNTER, "isthmus_journal_index_written_bytes_total",
                              "Written to the index's files: its memory, and compactions.", "%s", "");
}

void count_free(struct kv_rocks *r)
{
    metric_free(&r->m_segments);
    metric_free(&r->m_moved);
    metric_free(&r->m_put);
    metric_free(&r->m_written);
}

/* "NAME COUNT : N" in the text that is all the C API gives. */
static uint64_t ticker(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

void count_index(struct kv_rocks *r)
{
    char *text = rocksdb_options_statistics_get_string(r->options);
    uint64_t written;

    if (!text)
        return;
    written = ticker(text, "rocksdb.flush.write.bytes COUNT : ") +
              ticker(text, "rocksdb.compact.write.bytes COUNT : ");
    rocksdb_free(text);
    metric_add(r->m_written, written - r->index_written);
    r->index_written = written;
}
