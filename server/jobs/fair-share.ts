/**
 * How many waiting jobs one of several groups may take, so that replicas carry the same load.
 *
 * In      what each group runs and has room for; whose share is asked; jobs that wait
 * Out     a number of jobs from the front of the queue
 * Pure
 *
 * Jobs are dealt one by one to the group that runs the fewest (the first of equals). Without this the first group to wake
 * would take all there is, and its neighbours would sleep.
 */
export interface Taker {
  /** Sequences it runs. */
  readonly running: number;
  /** Jobs it could start now. */
  readonly room: number;
  /** Of `running`: those that it was given and has not begun. They wait, as those of the queue do; absent: none. */
  readonly ahead?: number;
}

export function fairShare(takers: readonly Taker[], taker: number, waiting: number): number {
  const loads = takers.map(({ running, room }) => ({ running, room }));
  let share = 0;
  for (let job = 0; job < waiting; job++) {
    let least = -1;
    loads.forEach(({ room, running }, index) => {
      if (room > 0 && (least < 0 || running < loads[least]!.running)) least = index;
    });
    const load = loads[least];
    if (!load) break;
    load.running++;
    load.room--;
    if (least === taker) share++;
  }
  return share;
}
