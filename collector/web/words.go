package web

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// advice says what a reason means, and what to do.
type advice struct{ What, Do string }

const (
	apiTrouble = "Wait, and look for an incident at Cohere."
	readAnswer = "Fetch the job by hand with curl and read the answer."
	notTheAPI  = "Check the base URL and any proxy in between."
)

// reasons are in words what the label "reason" says.
var reasons = map[client.Reason]advice{
	client.BadRequest:      {"The API finds the request bad (400).", readAnswer},
	client.Unauthorized:    {"The API does not accept the key (401).", "Put a key that works into the key file: it is used at the next request. A key in CO_API_KEY takes a restart."},
	client.PaymentRequired: {"The API wants to be paid (402).", "The account has reached its billing limit: ask whoever pays for it."},
	client.Forbidden:       {"The key may not do this (403).", "Use a key of the user who starts the jobs."},
	client.NotFound:        {"Not found (404).", "The ID is wrong, the job was deleted, or another user started it: a job is visible only to the user who started it."},
	client.Unprocessable:   {"The API cannot process the request (422).", readAnswer},
	client.RateLimited:     {"The API refuses requests (429).", "The exporter asks again by itself. If this goes on, lower the budget: others use the same key."},
	client.InvalidToken:    {"The API rejects a token (498).", readAnswer},
	client.ClientClosed:    {"The API says the request was given up (499).", readAnswer},
	client.ServerError:     {"The API has an error (5xx).", apiTrouble},
	client.NotImplemented:  {"The API cannot do this (501).", apiTrouble},
	client.Unavailable:     {"The API is unavailable (503).", apiTrouble},
	client.GatewayTimeout:  {"The API’s gateway gave up (504).", apiTrouble},
	client.HTTPError:       {"An unexpected answer.", notTheAPI},
	client.Timeout:         {"No answer in time.", "Raise the scrape timeout, --cohere.timeout or --cohere.max-concurrent-requests."},
	client.Network:         {"The API cannot be reached.", "Check DNS, proxy, firewall and TLS; the log has the error."},
	client.InvalidResponse: {"The answer is no such job.", notTheAPI},
	client.NoKey:           {"There is no API key.", "Check the path of the key file, and that the exporter’s user may read it."},
	"over_budget":          {"The budget is used up.", "Values follow as requests become free. Watch fewer jobs, fetch by list, ask settled ones less often, or raise the budget."},
}

// adviceOn returns what to say of a reason.
func adviceOn(reason client.Reason) advice {
	if a, ok := reasons[reason]; ok {
		return a
	}
	return advice{What: spaced(string(reason)) + "."}
}

// spaced returns a label value as words.
func spaced(label string) string { return strings.ReplaceAll(label, "_", " ") }

// moment is a time for people and for machines.
type moment struct{ ISO, Full, Words string }

func newMoment(t time.Time, words string) *moment {
	t = t.UTC()
	return &moment{t.Format(time.RFC3339), t.Format("2006-01-02 15:04:05 UTC"), words}
}

// ago says how long ago something was, nil if it was not, or nobody knows.
func ago(t, now time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	return newMoment(t, duration(now.Sub(t))+" ago")
}

// duration says how long something takes, in its two largest units.
func duration(d time.Duration) string {
	d = max(d, 0)
	seconds, minutes, hours := int(d.Seconds()), int(d.Minutes()), int(d.Hours())
	switch {
	case seconds < 60:
		return strconv.Itoa(seconds) + " s"
	case minutes < 60:
		return strconv.Itoa(minutes) + " min"
	case hours < 10 && minutes%60 > 0:
		return fmt.Sprintf("%d h %d min", hours, minutes%60)
	case hours < 48:
		return strconv.Itoa(hours) + " h"
	}
	return strconv.Itoa(hours/24) + " days"
}

// number writes a number with commas between thousands.
func number(n float64) string {
	if n != math.Trunc(n) || math.Abs(n) >= 1e15 {
		return strconv.FormatFloat(n, 'g', -1, 64)
	}
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// optional writes a number that the API may leave out.
func optional(n client.Optional[float64]) string {
	if !n.Valid {
		return ""
	}
	return number(n.Value)
}

// count writes a number of things.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(float64(n)) + " " + many
}

// short cuts a text of the API after so many characters.
func short(text string, most int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= most || utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most]) + "…"
}
