package nfs4

// RecallWait is recallWait, for tests from outside.
const RecallWait = recallWait
