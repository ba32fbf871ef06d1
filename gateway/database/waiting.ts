// Owns waiting for an answer that several callers share: each of them waits until its own deadline.

/**
 * Waits for a shared answer until the deadline. Others may wait for it, too, so it is not cancelled.
 * @param onLeave called if the deadline comes first
 */
export function before<T>(deadline: AbortSignal, answer: Promise<T>, onLeave = () => {}): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = () => {
      reject(deadline.reason)
      onLeave()
    }
    if (deadline.aborted) leave()
    else deadline.addEventListener('abort', leave)
    answer.then(resolve, reject).finally(() => deadline.removeEventListener('abort', leave))
  })
}
