package collector

import (
	"cmp"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/series"
)

// batches is the kind of batches.
var batches = &kind[client.Batch]{
	name:     "batch",
	resource: "batches",
	id:       "batch_id",
	jobs:     func(a *config.Account) *config.Jobs { return a.Batches },

	get:  (*client.Client).Batch,
	list: (*client.Client).Batches,

	read: func(b *client.Batch) head {
		return head{b.ID, string(b.Status), b.Status.Settled(), b.Name, b.CreatedAt}
	},
	equal: (*client.Batch).Equal,
	merge: func(entry, known *client.Batch) {
		entry.Name = cmp.Or(entry.Name, known.Name)
		entry.OutputDatasetID = cmp.Or(entry.OutputDatasetID, known.OutputDatasetID)
		entry.InputTokens = cmp.Or(entry.InputTokens, known.InputTokens)
		entry.OutputTokens = cmp.Or(entry.OutputTokens, known.OutputTokens)
	},
	lacksTokens: func(entry *client.Batch) bool { return !entry.InputTokens.Valid && !entry.OutputTokens.Valid },

	describeJob: describeBatch,

	statuses: []string{
		string(client.BatchCanceled), string(client.BatchCanceling), string(client.BatchCompleted), string(client.BatchFailed),
		string(client.BatchInProgress), string(client.BatchQueued), unknownStatus,
	},
	rows: []row[client.Batch]{
		reported("cohere_batch_input_tokens", "Input tokens that the API counts for the batch, and bills.",
			func(b *client.Batch) client.Optional[float64] { return b.InputTokens.Optional }),
		reported("cohere_batch_output_tokens", "Output tokens that the API counts for the batch, and bills.",
			func(b *client.Batch) client.Optional[float64] { return b.OutputTokens.Optional }),
		reported("cohere_batch_records", "Records in the batch. Those that are neither successful nor failed are still to come, or were lost.",
			func(b *client.Batch) client.Optional[float64] { return b.Records.Optional }),
		reported("cohere_batch_records_successful", "Records that were successful.",
			func(b *client.Batch) client.Optional[float64] { return b.SuccessfulRecords.Optional }),
		reported("cohere_batch_records_failed", "Records that failed.",
			func(b *client.Batch) client.Optional[float64] { return b.FailedRecords.Optional }),
		timestamp("cohere_batch_created_timestamp_seconds", "When the batch was created, in Unix time.",
			func(b *client.Batch) client.Optional[time.Time] { return b.CreatedAt }),
		timestamp("cohere_batch_updated_timestamp_seconds", "When the batch last changed, in Unix time.",
			func(b *client.Batch) client.Optional[time.Time] { return b.UpdatedAt }),
		{
			"cohere_batch_info", "What is known of the batch besides its status and numbers. Always 1." + fromMemory,
			[]string{"name", "model", "input_dataset_id", "output_dataset_id"},
			func(b *client.Batch, to *series.Builder) {
				to.Add(1, b.Name, b.Model, b.InputDatasetID, b.OutputDatasetID)
			},
		},
		{
			"cohere_batch_status_reason", "1 while the API gives a reason for the status of the batch." + fromMemory,
			[]string{"reason"},
			func(b *client.Batch, to *series.Builder) {
				if b.StatusReason != "" {
					to.Add(1, b.StatusReason)
				}
			},
		},
	},
}

func describeBatch(b *client.Batch) Description {
	var more details
	more.text("Input dataset", b.InputDatasetID)
	more.text("Output dataset", b.OutputDatasetID)
	if b.UpdatedAt.Valid {
		more = append(more, Detail{"Last change", b.UpdatedAt.Value})
	}
	return Description{
		Model:       b.Model,
		InputTokens: b.InputTokens.Optional, OutputTokens: b.OutputTokens.Optional,
		Records:  &Records{b.Records.Optional, b.SuccessfulRecords.Optional, b.FailedRecords.Optional},
		Reason:   b.StatusReason,
		IfFailed: "The API gives no reason. Look at the input dataset and at the records that failed, then start the batch again.",
		More:     more,
	}
}
