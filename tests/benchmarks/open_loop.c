/* An open-loop load for the servers: lookups at random (Poisson) times, independent of the answers.

     open_loop PORT RATE SECONDS KEYS CONNECTIONS SEED > waits

   Each request is timed from the moment when it was due. It is sent at that moment on the connection that has been idle longest. If
   all connections are busy, it waits, and its clock runs. Every answer is read completely; it must be a 200 and begin with the
   requested key. Output, for each answered request, as doubles (s, CLOCK_MONOTONIC): due, sent, answered. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { MOST_BYTES = 4096, MOST_EVENTS = 64, PATIENCE = 2 };

struct connection { int socket; unsigned key; double due, sent; size_t length; char answer[MOST_BYTES]; };
struct record { double due, sent, answered; };

static struct connection *connections, **idle;
static size_t number, idle_first, idle_count;
static uint64_t state;
static struct record *records;
static size_t answered;

static void fail(const char *what) {
  fprintf(stderr, "open_loop: %s (%s)\n", what, errno ? strerror(errno) : "no system error");
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static uint64_t drawn(void) { /* xorshift64* */
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545F4914F6CDD1DULL;
}

static double pause_before_next(double rate) { return -log(((double)(drawn() >> 11) + 1.0) / 9007199254740993.0) / rate; }

static void release(struct connection *one) { idle[(idle_first + idle_count++) % number] = one; }

static struct connection *longest_idle(void) {
  struct connection *one = idle[idle_first];
  idle_first = (idle_first + 1) % number;
  idle_count--;
  return one;
}

static void connect_all(int poll, int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  for (size_t i = 0; i < number; i++) {
    struct connection *one = &connections[i];
    int on = 1;
    one->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (one->socket < 0 || connect(one->socket, (struct sockaddr *)&address, sizeof address)) fail("can't connect");
    setsockopt(one->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, one->socket, &event)) fail("can't wait for a connection");
    release(one);
  }
  usleep(100000); /* the server has accepted them */
}

static void ask(double due, unsigned keys) {
  struct connection *one = longest_idle();
  char request[128];
  one->key = (unsigned)(drawn() % keys);
  int size = snprintf(request, sizeof request, "GET /v1/route/key-%07u?op=read HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", one->key);
  one->due = due;
  one->sent = now();
  one->length = 0;
  if (send(one->socket, request, (size_t)size, MSG_NOSIGNAL) != size) fail("can't send");
}

static size_t whole_length(struct connection *one) { /* length of the answer; 0: unknown yet */
  char *end = strstr(one->answer, "\r\n\r\n");
  if (end == NULL) return 0;
  for (char *line = strstr(one->answer, "\r\n"); line < end; line = strstr(line + 2, "\r\n"))
    if (!strncasecmp(line + 2, "content-length:", 15)) return (size_t)(end + 4 - one->answer) + strtoul(line + 17, NULL, 10);
  fail("an answer without a length");
  return 0;
}

static void take(struct connection *one) {
  ssize_t got = recv(one->socket, one->answer + one->length, sizeof one->answer - 1 - one->length, 0);
  if (got <= 0) fail("the server closed a connection");
  one->length += (size_t)got;
  one->answer[one->length] = 0;
  size_t whole = whole_length(one);
  if (!whole || one->length < whole) return;
  char wanted[32];
  snprintf(wanted, sizeof wanted, "{\"key\":\"key-%07u\"", one->key);
  char *body = strstr(one->answer, "\r\n\r\n") + 4;
  if (one->length != whole || strncmp(one->answer, "HTTP/1.1 200", 12) || strncmp(body, wanted, strlen(wanted))) fail("a wrong answer");
  records[answered++] = (struct record){one->due, one->sent, now()};
  release(one);
}

static void wait_until(int poll, double moment) {
  struct epoll_event events[MOST_EVENTS];
  double left = fmax(0.0, moment - now());
  struct timespec timeout = {.tv_sec = (time_t)left, .tv_nsec = (long)((left - floor(left)) * 1e9)};
  int found = epoll_pwait2(poll, events, MOST_EVENTS, &timeout, NULL);
  if (found < 0 && errno != EINTR) fail("can't wait");
  for (int i = 0; i < found; i++) take(events[i].data.ptr);
}

int main(int count, char **arguments) {
  if (count != 7) fail("usage: open_loop PORT RATE SECONDS KEYS CONNECTIONS SEED");
  double rate = atof(arguments[2]), seconds = atof(arguments[3]);
  unsigned keys = (unsigned)atol(arguments[4]);
  number = (size_t)atol(arguments[5]);
  state = strtoull(arguments[6], NULL, 10) * 2 + 1;
  size_t most = (size_t)(rate * seconds * 1.1) + 1000, waiting = 0, sent = 0, arrived = 0;
  connections = calloc(number, sizeof *connections);
  idle = calloc(number, sizeof *idle);
  records = calloc(most, sizeof *records);
  double *due = calloc(most, sizeof *due);
  int poll = epoll_create1(0);
  if (!connections || !idle || !records || !due || poll < 0) fail("no memory");
  prctl(PR_SET_TIMERSLACK, 1);
  connect_all(poll, atoi(arguments[1]));
  for (int i = 0; i < 20; i++) drawn();
  double begun = now(), next = begun + pause_before_next(rate), end = begun + seconds;
  while ((next < end || answered < arrived) && now() < end + PATIENCE) {
    for (double moment = now(); next <= moment && next < end && arrived < most; next += pause_before_next(rate)) due[arrived++] = next;
    for (waiting = arrived - sent; waiting && idle_count; waiting--) ask(due[sent++], keys);
    wait_until(poll, next < end ? next : end + PATIENCE);
  }
  if (answered < arrived) fail("requests were not answered");
  fwrite(records, sizeof *records, answered, stdout);
  return 0;
}
