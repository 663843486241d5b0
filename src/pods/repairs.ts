/** What was put right of pods because something else had changed it, since this process began. */
export class PodRepairs {
  /** Devices that were put on their bridge again, bridges, limits of bandwidth. */
  pods = 0;
  /** Rules of host ports, and against forged MACs. */
  rules = 0;
}
