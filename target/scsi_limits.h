/* target/scsi_limits.h - what the Block Limits page (B0h) says and the commands enforce.
 */
#ifndef ISTHMUS_SCSI_LIMITS_H
#define ISTHMUS_SCSI_LIMITS_H

enum {
    UNMAP_DESCRIPTORS_MAX = 256,
    UNMAP_BLOCKS_MAX = 1 << 20,
    WRITE_SAME_BLOCKS_MAX = 65528,
    COMPARE_BLOCKS_MAX = 255,
    ATOMIC_BYTES_MAX = 1 << 20,
    OPTIMAL_BYTES = 1 << 20,
    PHYSICAL_BLOCK_BYTES = 4096, /* what the cache works in */
};

#endif
