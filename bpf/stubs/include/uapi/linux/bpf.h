/* BCC includes its own copy, as bcc/bpf.h. */
#include <linux/types.h>
