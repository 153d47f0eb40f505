/* A hiccup meter: measures how late a nearly idle process with the highest priority on its core is run.

     hiccup CORE SECONDS > delays

   Every half millisecond it asks to be woken, and records how late it was. If the operating system permits, it runs in real time
   (SCHED_FIFO), so that it never waits for ordinary processes. It then waits only for the machine itself: a processor that the host
   has given to others, an interrupt, or a kernel that can't be interrupted. Any server on this core would have waited as well. While
   it is held up, every missed wake-up counts, so that the delays are those of requests that arrive at such moments. Output: one double
   (1 in real time, 0 otherwise), then for each wake-up, as doubles (s, CLOCK_MONOTONIC): due, delay. */

#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

static const double EVERY = 0.0005;

struct moment { double due, delay; };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void sleep_until(double moment) {
  struct timespec time = {.tv_sec = (time_t)moment};
  time.tv_nsec = (long)((moment - (double)time.tv_sec) * 1e9);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL)) {}
}

int main(int count, char **arguments) {
  if (count != 3) return 2;
  cpu_set_t core;
  CPU_ZERO(&core);
  CPU_SET(atoi(arguments[1]), &core);
  double seconds = atof(arguments[2]);
  size_t most = (size_t)(seconds / EVERY) + 1, noted = 0;
  struct moment *moments = calloc(most, sizeof *moments);
  if (!moments || sched_setaffinity(0, sizeof core, &core)) return 1;
  prctl(PR_SET_TIMERSLACK, 1);
  mlockall(MCL_CURRENT);
  struct sched_param first = {.sched_priority = 50};
  double real_time = sched_setscheduler(0, SCHED_FIFO, &first) == 0;
  for (double due = now() + EVERY; noted < most;) {
    sleep_until(due);
    for (double moment = now(); due <= moment && noted < most; due += EVERY) moments[noted++] = (struct moment){due, moment - due};
  }
  fwrite(&real_time, sizeof real_time, 1, stdout);
  fwrite(moments, sizeof *moments, noted, stdout);
  return 0;
}
