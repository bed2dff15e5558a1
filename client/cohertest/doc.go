// Package cohertest simulates Cohere's APIs of embed jobs and batches for tests,
// benchmarks and demonstrations, in the manner of net/http/httptest.
//
//	api := cohertest.New()
//	user := api.AddUser("key")
//	user.Add(cohertest.Job{ID: "ebd-1", Status: "complete", InputTokens: 1520})
//	user.AddBatches(cohertest.Batch{ID: "2f6c0f0a", Status: "BATCH_STATUS_QUEUED"})
//	server := api.Start()
//	defer server.Close()
//
// An [API] is an http.Handler. It can be started on a loopback port ([API.Start],
// [API.StartTLS]) or over in-memory connections ([API.StartInMemory],
// [API.StartInMemoryHTTP2]), which also work in the fake time of testing/synctest.
//
// What a user's jobs look like is set with [User.Add] and [User.Update], or follows
// from the time by [Job.Script]; batches have [User.AddBatches] and the like. How the
// API misbehaves is set with [User.Fail]; it answers in gzip after [API.Compress].
//
// What became of it all is told by [API.Requests] and [API.Observe], and by
// [User.History] after [API.KeepHistory].
//
// All methods may be called from several goroutines, also while requests are in flight.
package cohertest
