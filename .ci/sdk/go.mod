module github.com/cohere-exporter/cohere_exporter/.ci/sdk

go 1.26.0

require (
	github.com/cohere-ai/cohere-go/v2 v2.15.3
	github.com/cohere-exporter/cohere_exporter v0.0.0
)

replace github.com/cohere-exporter/cohere_exporter => ../..
