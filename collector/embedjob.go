package collector

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/series"
)

// embedJobs is the kind of embed jobs.
var embedJobs = &kind[client.EmbedJob]{
	name:     "embed_job",
	resource: "embed_jobs",
	id:       "job_id",
	jobs:     func(a *config.Account) *config.Jobs { return a.EmbedJobs },

	get: (*client.Client).EmbedJob,
	list: func(c *client.Client, ctx context.Context, _ string, each func(*client.EmbedJob)) (string, error) {
		return "", c.EmbedJobs(ctx, each) // in one page
	},

	read: func(j *client.EmbedJob) head {
		return head{j.ID, string(j.Status), j.Status.Settled(), j.Name, j.CreatedAt}
	},
	equal: (*client.EmbedJob).Equal,
	merge: func(entry, known *client.EmbedJob) {
		entry.Name = cmp.Or(entry.Name, known.Name)
		entry.OutputDatasetID = cmp.Or(entry.OutputDatasetID, known.OutputDatasetID)
		entry.Meta.APIVersion = cmp.Or(entry.Meta.APIVersion, known.Meta.APIVersion)
		entry.Meta.BilledUnits = cmp.Or(entry.Meta.BilledUnits, known.Meta.BilledUnits)
		entry.Meta.Tokens = cmp.Or(entry.Meta.Tokens, known.Meta.Tokens)
		entry.Meta.CachedTokens = cmp.Or(entry.Meta.CachedTokens, known.Meta.CachedTokens)
		if entry.Meta.Warnings == nil {
			entry.Meta.Warnings = known.Meta.Warnings
		}
	},
	lacksTokens: func(entry *client.EmbedJob) bool { return entry.Meta.BilledUnits == client.BilledUnits{} },

	describeJob: describeEmbedJob,

	statuses: []string{
		string(client.Cancelled), string(client.Cancelling), string(client.Complete),
		string(client.Failed), string(client.Processing), unknownStatus,
	},
	rows: []row[client.EmbedJob]{
		reported("cohere_embed_job_billed_input_tokens", "Billed input tokens.",
			func(j *client.EmbedJob) client.Optional[float64] { return j.Meta.BilledUnits.InputTokens }),
		reported("cohere_embed_job_billed_output_tokens", "Billed output tokens.",
			func(j *client.EmbedJob) client.Optional[float64] { return j.Meta.BilledUnits.OutputTokens }),
		reported("cohere_embed_job_billed_images", "Billed images.",
			func(j *client.EmbedJob) client.Optional[float64] { return j.Meta.BilledUnits.Images }),
		reported("cohere_embed_job_billed_image_tokens", "Billed tokens of images.",
			func(j *client.EmbedJob) client.Optional[float64] { return j.Meta.BilledUnits.ImageTokens }),
		nonZero("cohere_embed_job_billed_search_units", "Billed search units. Absent while 0.",
			func(j *client.EmbedJob) client.Optional[float64] { return j.Meta.BilledUnits.SearchUnits }),
		nonZero("cohere_embed_job_billed_classifications", "Billed classifications. Absent while 0.",
			func(j *client.EmbedJob) client.Optional[float64] { return j.Meta.BilledUnits.Classifications }),
		nonZero("cohere_embed_job_billed_pages", "Billed pages. Absent while 0.",
			func(j *client.EmbedJob) client.Optional[float64] { return j.Meta.BilledUnits.Pages }),
		reported("cohere_embed_job_input_tokens", "Input tokens used, billed or not.",
			func(j *client.EmbedJob) client.Optional[float64] { return j.Meta.Tokens.InputTokens }),
		reported("cohere_embed_job_output_tokens", "Output tokens used, billed or not.",
			func(j *client.EmbedJob) client.Optional[float64] { return j.Meta.Tokens.OutputTokens }),
		reported("cohere_embed_job_cached_tokens", "Tokens that came from a cache.",
			func(j *client.EmbedJob) client.Optional[float64] { return j.Meta.CachedTokens }),
		reported("cohere_embed_job_warnings", "Number of warnings that the job carries.",
			func(j *client.EmbedJob) client.Optional[float64] {
				return client.Optional[float64]{Value: float64(len(j.Meta.Warnings)), Valid: j.Meta.Warnings != nil}
			}),
		timestamp("cohere_embed_job_created_timestamp_seconds", "When the job was created, in Unix time.",
			func(j *client.EmbedJob) client.Optional[time.Time] { return j.CreatedAt }),
		{
			"cohere_embed_job_info", "What is known of the job besides its status and numbers. Always 1." + fromMemory,
			[]string{"name", "model", "truncate", "input_dataset_id", "output_dataset_id"},
			func(j *client.EmbedJob, to *series.Builder) {
				to.Add(1, j.Name, j.Model, j.Truncate, j.InputDatasetID, j.OutputDatasetID)
			},
		},
		{
			"cohere_embed_job_api_info", "The API version that answered. Always 1." + fromMemory,
			[]string{"version", "deprecated", "experimental"},
			func(j *client.EmbedJob, to *series.Builder) {
				if v := j.Meta.APIVersion; v != (client.APIVersion{}) {
					to.Add(1, v.Version, yesOrNo(v.Deprecated), yesOrNo(v.Experimental))
				}
			},
		},
	},
}

func describeEmbedJob(j *client.EmbedJob) Description {
	var more details
	more.text("Input dataset", j.InputDatasetID)
	more.text("Output dataset", j.OutputDatasetID)
	more.text("Truncate", j.Truncate)
	billed := &j.Meta.BilledUnits
	more.nonZero("Billed images", billed.Images)
	more.nonZero("Billed image tokens", billed.ImageTokens)
	more.nonZero("Billed search units", billed.SearchUnits)
	more.nonZero("Billed classifications", billed.Classifications)
	more.nonZero("Billed pages", billed.Pages)
	more.number("Input tokens used", j.Meta.Tokens.InputTokens)
	more.number("Output tokens used", j.Meta.Tokens.OutputTokens)
	more.number("Cached tokens", j.Meta.CachedTokens)
	version := j.Meta.APIVersion.Version
	if j.Meta.APIVersion.Deprecated.Value {
		version += " (deprecated)"
	}
	if j.Meta.APIVersion.Experimental.Value {
		version += " (experimental)"
	}
	more.text("API version", strings.TrimSpace(version))
	return Description{
		Model:       j.Model,
		InputTokens: billed.InputTokens, OutputTokens: billed.OutputTokens,
		IfFailed: "The API gives no reason. Look at the input dataset, then start the job again.",
		Warnings: j.Meta.Warnings,
		More:     more,
	}
}

// yesOrNo is the label of what the API may leave out.
func yesOrNo(b client.Optional[bool]) string {
	if !b.Valid {
		return ""
	}
	return strconv.FormatBool(b.Value)
}
