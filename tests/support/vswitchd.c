/* A stand-in for ovs-vswitchd's upcall handlers, with its USDT probes: providers, names, order and types of arguments
 * are those of lib/dpif.c and lib/dpif-netlink.c of Open vSwitch 3, built with --enable-usdt-probes.
 *
 *   ovs-vswitchd script HANDLERS
 *       handlers do what standard input says, one line at a time: "HANDLER recv HEX", "HANDLER put", "HANDLER exec HEX"
 *   ovs-vswitchd datapath HANDLERS BATCH FLAGS PORT PORT
 *       a real datapath with two ports: what comes in at one is sent out of the other. A batch ends with BATCH upcalls,
 *       or when none is left. FLAGS: p: install flows; d: drop instead, with reason 7; h: hold back. A line of input
 *       replaces them
 *   ovs-vswitchd preempt LOW HIGH
 *       at a line of input, two threads on one CPU have the probe of a reception: the first LOW times, and the second,
 *       which preempts it, HIGH times. Packets are of 64 bytes: number of the thread, then that of the packet, which the
 *       first counts up to 64 only
 *   ovs-vswitchd together COUNT
 *       at a line of input, two threads on two CPUs receive, at the same moment, a packet each, and then execute it;
 *       COUNT times. The two packets are the same: 64 bytes, the first four of which are their number
 *
 * Says "ready" when it is, and ends with its standard input.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/openvswitch.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef WITH_SEMAPHORES
#define _SDT_HAS_SEMAPHORES 1
#endif
#include <sys/sdt.h>
#ifdef WITH_SEMAPHORES
#define SEMAPHORE(name) __extension__ unsigned short name##_semaphore __attribute__((unused, section(".probes")))
SEMAPHORE(main_run_start);
SEMAPHORE(dpif_recv_recv_upcall);
SEMAPHORE(dpif_netlink_operate___op_flow_put);
SEMAPHORE(dpif_netlink_operate___op_flow_execute);
#define ENABLED(name) __builtin_expect(*(volatile unsigned short *)&name##_semaphore, 0)
#else
#define ENABLED(name) 1
#endif

#define OVS_ACTION_ATTR_DROP_ 24	/* missing in headers before Linux 6.6 */
#define MAX_BATCH 64
#define MAX_HANDLERS 16

struct upcall {
	uint32_t type;
	void *data;
	uint32_t size;
	struct nlattr *key;
	size_t key_len;
};

static const char *dpif_name = "system@ovs-system";
static int dpif, op, request;	/* things to have the address of */

/* dpif_recv() */
__attribute__((noinline)) static void probe_recv(struct upcall *upcall)
{
	if (ENABLED(dpif_recv_recv_upcall))
		DTRACE_PROBE6(dpif_recv, recv_upcall, dpif_name, upcall->type, upcall->data, upcall->size, upcall->key,
			      upcall->key_len);
}

/* dpif_netlink_operate__() */
__attribute__((noinline)) static void probe_put(void)
{
	if (ENABLED(dpif_netlink_operate___op_flow_put))
		DTRACE_PROBE4(dpif_netlink_operate__, op_flow_put, &dpif, &op, &op, &request);
}

__attribute__((noinline)) static void probe_execute(void *data, uint32_t size)
{
	if (ENABLED(dpif_netlink_operate___op_flow_execute))
		DTRACE_PROBE5(dpif_netlink_operate__, op_flow_execute, &dpif, &op, data, size, &request);
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void start(pthread_t *thread, void *(*work)(void *), long number)
{
	char name[16];

	if (pthread_create(thread, NULL, work, (void *)number))
		die("pthread_create");
	snprintf(name, sizeof(name), "handler%ld", number);
	pthread_setname_np(*thread, name);
}

/* ---- script ---- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	char *line;
	int handler;
} todo = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER };

static size_t unhex(const char *text, unsigned char *out)
{
	size_t count = 0;

	while (sscanf(text + 2 * count, "%2hhx", out + count) == 1)
		count++;
	return count;
}

static void *follow_script(void *number)
{
	static __thread unsigned char packet[1 << 16];
	struct upcall upcall = { .type = 0, .data = packet, .key = (void *)packet, .key_len = 168 };
	char what[8], hex[1 << 12];

	pthread_mutex_lock(&todo.lock);
	for (;;) {
		while (!todo.line || todo.handler != (long)number)
			pthread_cond_wait(&todo.changed, &todo.lock);
		hex[0] = 0;
		sscanf(todo.line, "%*d %7s %4095s", what, hex);
		upcall.size = unhex(hex, packet);
		if (!strcmp(what, "recv"))
			probe_recv(&upcall);
		else if (!strcmp(what, "put"))
			probe_put();
		else
			probe_execute(packet, upcall.size);
		todo.line = NULL;
		pthread_cond_broadcast(&todo.changed);
	}
	return NULL;
}

static void script(int handlers)
{
	pthread_t threads[MAX_HANDLERS];
	char *line = NULL;
	size_t room = 0;
	long number;

	for (number = 0; number < handlers; number++)
		start(&threads[number], follow_script, number);
	puts("ready");
	while (getline(&line, &room, stdin) > 0) {
		pthread_mutex_lock(&todo.lock);
		todo.handler = atoi(line);
		todo.line = line;
		pthread_cond_broadcast(&todo.changed);
		while (todo.line)
			pthread_cond_wait(&todo.changed, &todo.lock);
		pthread_mutex_unlock(&todo.lock);
		puts("done");
	}
}

/* ---- preempt ---- */

static int hits[2];

static void *preempt(void *number)
{
	struct sched_param priority = { .sched_priority = 1 };
	uint32_t packet[16] = { (long)number };
	struct upcall upcall = { .data = packet, .size = sizeof(packet), .key = (void *)packet, .key_len = 168 };
	int first = !number, i;
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	if (!first && sched_setscheduler(0, SCHED_FIFO, &priority))
		die("sched_setscheduler");
	for (i = 0; i < hits[!first]; i++) {
		packet[1] = first ? i % 64 : i;
		probe_recv(&upcall);
		if (!first)
			usleep(20);
	}
	return NULL;
}

/* ---- together ---- */

static int times, here;

/* Both threads leave it at the same moment: the *number*-th meeting of theirs. */
static void meet(int number)
{
	__atomic_add_fetch(&here, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&here, __ATOMIC_SEQ_CST) < 2 * number)
		;
}

static void *together(void *number)
{
	uint32_t packet[16] = {};
	struct upcall upcall = { .data = packet, .size = sizeof(packet), .key = (void *)packet, .key_len = 168 };
	cpu_set_t cpu;
	int i;

	CPU_ZERO(&cpu);
	CPU_SET((long)number, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	for (i = 0; i < times; i++) {
		packet[0] = i;
		meet(2 * i + 1);
		probe_recv(&upcall);
		meet(2 * i + 2);
		probe_execute(packet, sizeof(packet));
	}
	return NULL;
}

static void both(void *(*work)(void *))
{
	pthread_t threads[2];
	char *line = NULL;
	size_t room = 0;

	puts("ready");
	while (getline(&line, &room, stdin) > 0) {
		here = 0;
		start(&threads[0], work, 0);
		start(&threads[1], work, 1);
		pthread_join(threads[0], NULL);
		pthread_join(threads[1], NULL);
		puts("done");
	}
}

/* ---- datapath ---- */

struct message {
	struct nlmsghdr nl;
	struct genlmsghdr genl;
	struct ovs_header ovs;
	char attributes[1 << 16];
};

static int batch_size, with_put, with_drop, held, sockets[MAX_HANDLERS], control;
static uint32_t ports[MAX_HANDLERS], dp_ifindex;
static uint16_t datapath_family, vport_family, flow_family, packet_family;

static int open_netlink(uint32_t *port)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	socklen_t length = sizeof(address);
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC), size = 8 << 20;

	if (fd < 0 || bind(fd, (void *)&address, sizeof(address)) || getsockname(fd, (void *)&address, &length))
		die("netlink");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (port)
		*port = address.nl_pid;
	return fd;
}

static void begin(struct message *m, uint16_t family, uint8_t command, uint8_t version, uint16_t flags)
{
	memset(m, 0, sizeof(*m) - sizeof(m->attributes));
	m->nl.nlmsg_len = NLMSG_LENGTH(sizeof(m->genl) + sizeof(m->ovs));
	m->nl.nlmsg_type = family;
	m->nl.nlmsg_flags = NLM_F_REQUEST | flags;
	m->genl.cmd = command;
	m->genl.version = version;
	m->ovs.dp_ifindex = dp_ifindex;
}

static struct nlattr *add(struct message *m, uint16_t type, const void *data, size_t size)
{
	struct nlattr *attr = (void *)m + NLMSG_ALIGN(m->nl.nlmsg_len);

	attr->nla_type = type;
	attr->nla_len = NLA_HDRLEN + size;
	memcpy((char *)attr + NLA_HDRLEN, data, size);
	m->nl.nlmsg_len = NLMSG_ALIGN(m->nl.nlmsg_len) + NLA_ALIGN(attr->nla_len);
	return attr;
}

static void add_u32(struct message *m, uint16_t type, uint32_t value)
{
	add(m, type, &value, sizeof(value));
}

static struct nlattr *find(void *from, size_t length, uint16_t type)
{
	struct nlattr *attr = from;

	while (length >= NLA_HDRLEN && attr->nla_len >= NLA_HDRLEN && attr->nla_len <= length) {
		if ((attr->nla_type & NLA_TYPE_MASK) == type)
			return attr;
		length -= NLA_ALIGN(attr->nla_len) < length ? NLA_ALIGN(attr->nla_len) : length;
		attr = (void *)attr + NLA_ALIGN(attr->nla_len);
	}
	return NULL;
}

/* Sends *m*; the answer replaces it. */
static void ask(struct message *m, const char *what)
{
	ssize_t got;

	if (send(control, m, m->nl.nlmsg_len, 0) < 0 || (got = recv(control, m, sizeof(*m), 0)) < 0)
		die("netlink request");
	if (m->nl.nlmsg_type == NLMSG_ERROR) {
		errno = -*(int *)NLMSG_DATA(&m->nl);
		die(what);
	}
}

static uint16_t family(const char *name)
{
	static struct message m;
	struct nlattr *id;

	begin(&m, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1, 0);
	m.nl.nlmsg_len = NLMSG_LENGTH(sizeof(m.genl));
	add(&m, CTRL_ATTR_FAMILY_NAME, name, strlen(name) + 1);
	ask(&m, name);
	id = find(&m.ovs, m.nl.nlmsg_len - NLMSG_LENGTH(sizeof(m.genl)), CTRL_ATTR_FAMILY_ID);
	return *(uint16_t *)((char *)id + NLA_HDRLEN);
}

static void add_actions(struct message *m, uint16_t type, uint32_t in_port)
{
	struct { struct nlattr head; uint32_t value; } action = { { sizeof(action), OVS_ACTION_ATTR_OUTPUT }, 3 - in_port };

	if (with_drop) {
		action.head.nla_type = OVS_ACTION_ATTR_DROP_;
		action.value = 7;
	}
	add(m, type, &action, sizeof(action));
}

/* One batch: receive, then a put and an execute for each upcall, whose probes fire before anything is sent. */
static void handle_batch(int fd, struct message *received, struct message *out)
{
	struct upcall upcalls[MAX_BATCH];
	uint32_t in_port[MAX_BATCH];
	int count, i;

	for (count = 0; count < batch_size; count++) {
		struct message *m = &received[count];
		ssize_t got = recv(fd, m, sizeof(*m), MSG_DONTWAIT);
		size_t length = got - NLMSG_LENGTH(sizeof(m->genl) + sizeof(m->ovs));
		struct nlattr *packet, *key, *port;

		if (got < 0)
			break;
		packet = find(m->attributes, length, OVS_PACKET_ATTR_PACKET);
		key = find(m->attributes, length, OVS_PACKET_ATTR_KEY);
		if (m->nl.nlmsg_type != packet_family || !packet || !key) {
			count--;
			continue;
		}
		upcalls[count] = (struct upcall){ m->genl.cmd == OVS_PACKET_CMD_MISS ? 0 : 1,
			(char *)packet + NLA_HDRLEN, packet->nla_len - NLA_HDRLEN,
			(void *)((char *)key + NLA_HDRLEN), key->nla_len - NLA_HDRLEN };
		port = find(upcalls[count].key, upcalls[count].key_len, OVS_KEY_ATTR_IN_PORT);
		in_port[count] = *(uint32_t *)((char *)port + NLA_HDRLEN);
		probe_recv(&upcalls[count]);
	}
	for (i = 0; i < count; i++) {
		if (with_put)
			probe_put();
		probe_execute(upcalls[i].data, upcalls[i].size);
	}
	for (i = 0; i < count; i++) {
		if (with_put) {
			begin(out, flow_family, OVS_FLOW_CMD_NEW, OVS_FLOW_VERSION, NLM_F_CREATE);
			add(out, OVS_FLOW_ATTR_KEY, upcalls[i].key, upcalls[i].key_len);
			add_actions(out, OVS_FLOW_ATTR_ACTIONS, in_port[i]);
			if (send(control, out, out->nl.nlmsg_len, 0) < 0)
				die("put");
		}
		begin(out, packet_family, OVS_PACKET_CMD_EXECUTE, OVS_PACKET_VERSION, 0);
		add(out, OVS_PACKET_ATTR_PACKET, upcalls[i].data, upcalls[i].size);
		add(out, OVS_PACKET_ATTR_KEY, upcalls[i].key, upcalls[i].key_len);
		add_actions(out, OVS_PACKET_ATTR_ACTIONS, in_port[i]);
		if (send(control, out, out->nl.nlmsg_len, 0) < 0)
			die("execute");
	}
}

static void *handle_upcalls(void *number)
{
	struct pollfd wait = { .fd = sockets[(long)number], .events = POLLIN };
	struct message *received = calloc(MAX_BATCH, sizeof(*received)), *out = malloc(sizeof(*out));

	for (;;) {
		if (poll(&wait, 1, -1) < 0)
			continue;
		while (__atomic_load_n(&held, __ATOMIC_SEQ_CST))
			usleep(1000);
		handle_batch(wait.fd, received, out);
	}
	return NULL;
}

static void set_flags(const char *flags)
{
	with_put = !!strchr(flags, 'p');
	with_drop = !!strchr(flags, 'd');
	__atomic_store_n(&held, !!strchr(flags, 'h'), __ATOMIC_SEQ_CST);
}

static void datapath(int handlers, char **names)
{
	static struct message m;
	int cpus = sysconf(_SC_NPROCESSORS_CONF), count = handlers < cpus ? handlers : cpus, first;
	pthread_t threads[MAX_HANDLERS];
	char *line = NULL;
	size_t room = 0;
	long number;

	control = open_netlink(NULL);
	datapath_family = family(OVS_DATAPATH_FAMILY);
	vport_family = family(OVS_VPORT_FAMILY);
	flow_family = family(OVS_FLOW_FAMILY);
	packet_family = family(OVS_PACKET_FAMILY);
	for (number = 0; number < handlers; number++)
		sockets[number] = open_netlink(&ports[number]);
	begin(&m, datapath_family, OVS_DP_CMD_NEW, OVS_DATAPATH_VERSION, NLM_F_ECHO);
	add(&m, OVS_DP_ATTR_NAME, "standin", 8);
	add_u32(&m, OVS_DP_ATTR_UPCALL_PID, 0);
	add_u32(&m, OVS_DP_ATTR_USER_FEATURES, OVS_DP_F_UNALIGNED | OVS_DP_F_VPORT_PIDS);
	ask(&m, "datapath");
	dp_ifindex = m.ovs.dp_ifindex;
	for (number = 1; number <= 2; number++) {
		begin(&m, vport_family, OVS_VPORT_CMD_NEW, OVS_VPORT_VERSION, NLM_F_ECHO);
		add(&m, OVS_VPORT_ATTR_NAME, names[number - 1], strlen(names[number - 1]) + 1);
		add_u32(&m, OVS_VPORT_ATTR_TYPE, OVS_VPORT_TYPE_NETDEV);
		add_u32(&m, OVS_VPORT_ATTR_PORT_NO, number);
		/* the kernel refuses more of a port than there are CPUs: ovs_vport_set_upcall_portids() */
		first = (number - 1) * count < handlers - count ? (number - 1) * count : handlers - count;
		add(&m, OVS_VPORT_ATTR_UPCALL_PID, ports + first, count * sizeof(ports[0]));
		ask(&m, names[number - 1]);
	}
	for (number = 0; number < handlers; number++)
		start(&threads[number], handle_upcalls, number);
	puts("ready");
	while (getline(&line, &room, stdin) > 0) {
		set_flags(line);
		puts("done");
	}
	begin(&m, datapath_family, OVS_DP_CMD_DEL, OVS_DATAPATH_VERSION, NLM_F_ACK);
	send(control, &m, m.nl.nlmsg_len, 0);
}

int main(int argc, char **argv)
{
	setlinebuf(stdout);
	if (ENABLED(main_run_start))
		DTRACE_PROBE(main, run_start);
	if (argc == 3 && !strcmp(argv[1], "script")) {
		script(atoi(argv[2]));
	} else if (argc == 4 && !strcmp(argv[1], "preempt")) {
		hits[0] = atoi(argv[2]);
		hits[1] = atoi(argv[3]);
		both(preempt);
	} else if (argc == 3 && !strcmp(argv[1], "together")) {
		times = atoi(argv[2]);
		both(together);
	} else if (argc == 7 && !strcmp(argv[1], "datapath")) {
		batch_size = atoi(argv[3]);
		set_flags(argv[4]);
		datapath(atoi(argv[2]), argv + 5);
	} else {
		fprintf(stderr, "usage: see %s\n", __FILE__);
		return 2;
	}
	return 0;
}
