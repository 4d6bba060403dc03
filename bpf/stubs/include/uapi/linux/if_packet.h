/* Included by BCC; nothing of it is needed: structures come from BTF (see bpf/README.md). */
