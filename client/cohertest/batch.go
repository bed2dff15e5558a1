package cohertest

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Batch is a batch as the API answers it. Only the ID is required.
type Batch struct {
	ID     string
	Status string // by default "BATCH_STATUS_QUEUED"
	Name   string

	Model           string    // by default "embed-v4.0"
	InputDatasetID  string    // by default derived from the ID
	OutputDatasetID string    // by default empty
	CreatedAt       time.Time // by default an hour before the batch was added
	UpdatedAt       time.Time // by default CreatedAt

	InputTokens, OutputTokens                 int64
	Records, SuccessfulRecords, FailedRecords int64
	StatusReason                              string

	// Raw, if set, is answered to the letter in place of the batch, alone and in the list.
	Raw string

	// Script, if set, shapes a copy of the batch at every answer: a batch that changes by
	// time, without goroutines. It may be called concurrently.
	Script func(now time.Time, b *Batch)
}

func (b *Batch) setDefaults(now time.Time) {
	setDefault(&b.Status, "BATCH_STATUS_QUEUED")
	setDefault(&b.Model, "embed-v4.0")
	setDefault(&b.InputDatasetID, b.ID+"-in")
	if b.CreatedAt.IsZero() {
		b.CreatedAt = now.Add(-time.Hour)
	}
	if b.UpdatedAt.IsZero() {
		b.UpdatedAt = b.CreatedAt
	}
}

// at returns the batch as it is at that time.
func (b *Batch) at(now time.Time) Batch {
	shaped := *b
	if b.Script != nil {
		shaped.Script = nil // shaped once
		b.Script(now, &shaped)
	}
	return shaped
}

// Sizes of a page of the list.
const (
	defaultPageSize = 50
	maxPageSize     = 1000
)

// batches are a user's. They are guarded by the API's mu.
type batches struct {
	byID          map[string]*Batch // never changed, only replaced
	history       history[Batch]
	order         []string // of the list: as added
	pageSize      int
	withoutTokens bool
	window        window
}

// AddBatches adds batches, in that order, and replaces those whose ID the user already
// has. It panics if an ID is empty.
func (u *User) AddBatches(batches ...Batch) {
	now := time.Now()
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	for _, b := range batches {
		if b.ID == "" {
			panic("cohertest: batch without ID")
		}
		b.setDefaults(now)
		if _, ok := u.batches.byID[b.ID]; !ok {
			u.batches.order = append(u.batches.order, b.ID)
		}
		u.batches.byID[b.ID] = &b
		u.batches.history.note(u.api, b.ID, &b)
	}
}

// UpdateBatch changes a batch; its ID stays. It panics if the user has no such batch. The
// function must not call the API's or its users' methods.
func (u *User) UpdateBatch(id string, change func(*Batch)) {
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	old, ok := u.batches.byID[id]
	if !ok {
		panic("cohertest: no batch " + id)
	}
	b := *old
	change(&b)
	b.ID = id
	b.setDefaults(time.Now())
	u.batches.byID[id] = &b
	u.batches.history.note(u.api, id, &b)
}

// RemoveBatches removes batches, which the API itself never does.
func (u *User) RemoveBatches(ids ...string) {
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	for _, id := range ids {
		delete(u.batches.byID, id)
		u.batches.history.note(u.api, id, nil)
	}
	u.batches.order = slices.DeleteFunc(u.batches.order, func(id string) bool {
		_, ok := u.batches.byID[id]
		return !ok
	})
}

// PageBatches has a page of the list hold at most n batches, however many are asked for.
// With 0 it is as many as the API's own greatest page, 1,000.
func (u *User) PageBatches(n int) {
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	u.batches.pageSize = n
}

// ListBatchesWithoutTokens leaves the token counts out of the list.
func (u *User) ListBatchesWithoutTokens(on bool) {
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	u.batches.withoutTokens = on
}

// LimitBatches is Limit for requests about batches, which have a limit of their own.
func (u *User) LimitBatches(l Limit) {
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	u.batches.window = window{limit: l}
}

// Batches returns what the proper answer would hold now: the batch asked for, if the user
// has it, or those of the page of the list.
func (c *Call) Batches() []Batch {
	page, _ := c.page()
	return page
}

// page is Batches with the token of the next page, "" on the last.
func (c *Call) page() (page []Batch, next string) {
	now := time.Now()
	c.user.api.mu.Lock()
	defer c.user.api.mu.Unlock()

	u := &c.user.batches
	if !c.List {
		if b, ok := u.byID[c.ID]; ok {
			page = append(page, b.at(now))
		}
		return page, ""
	}
	size := defaultPageSize
	if n, err := strconv.Atoi(c.query.Get("page_size")); err == nil && n > 0 {
		size = min(n, maxPageSize)
	}
	if u.pageSize > 0 {
		size = min(size, u.pageSize)
	}
	first := min(c.offset(), len(u.order))
	last := min(first+size, len(u.order))
	for _, id := range u.order[first:last] {
		page = append(page, u.byID[id].at(now))
	}
	if last < len(u.order) {
		next = token(last)
	}
	return page, next
}

// token is the token of the page that begins with the batch of that number. It is opaque,
// and has to be escaped in a URL.
func token(offset int) string {
	return base64.StdEncoding.EncodeToString([]byte("batch " + strconv.Itoa(offset)))
}

// offset is the number of the first batch of the page, 0 if its token is none of ours.
func (c *Call) offset() int {
	text, _ := base64.StdEncoding.DecodeString(c.PageToken)
	n, _ := strconv.Atoi(strings.TrimPrefix(string(text), "batch "))
	return max(n, 0)
}

// RepeatedToken is a list of batches whose pages all name the same next page.
func RepeatedToken(w http.ResponseWriter, _ *http.Request, c *Call) {
	page, _ := c.page()
	c.AnswerWithBatches(w, token(0), page...)
}

// EndlessPages is a list of batches that has always another page.
func EndlessPages(w http.ResponseWriter, _ *http.Request, c *Call) {
	page, _ := c.page()
	c.AnswerWithBatches(w, token(c.offset()+max(len(page), 1)), page...)
}

// AnswerWithBatches answers with the given batches in place of the user's, and for a list
// with that token of the next page. Batches as returned by [Call.Batches] are complete;
// others should be.
func (c *Call) AnswerWithBatches(w http.ResponseWriter, next string, batches ...Batch) {
	c.writeBatches(w, batches, next, style{})
}

func (c *Call) writeBatches(w http.ResponseWriter, batches []Batch, next string, s style) {
	if !c.List {
		if len(batches) == 0 {
			c.user.api.fail(w, http.StatusNotFound, "batch not found: "+c.ID)
			return
		}
		body := batches[0].append([]byte(`{"batch":`), s)
		_ = reply(w, http.StatusOK, append(body, '}'))
		return
	}

	c.user.api.mu.Lock()
	s.withoutTokens = c.user.batches.withoutTokens
	c.user.api.mu.Unlock()

	body := []byte(`{"batches":[`)
	for i := range batches {
		if i > 0 {
			body = append(body, ',')
		}
		body = batches[i].append(body, s)
	}
	body = append(body, ']')
	switch {
	case s.required && next == "":
	case s.nulls && next == "":
		body = append(body, `,"next_page_token":null`...)
	default:
		body = append(body, `,"next_page_token":`...)
		body = appendString(body, next)
	}
	_ = reply(w, http.StatusOK, append(body, '}'))
}

// append appends the batch's JSON in the recorded shape. Like a job's it is put together
// from literals.
func (b *Batch) append(to []byte, s style) []byte {
	if b.Raw != "" {
		return append(to, b.Raw...)
	}
	str := func(name, value string) {
		to = append(to, name...)
		to = appendString(to, value)
	}
	number := func(name string, value int64, quote string) {
		to = append(to, name...)
		switch {
		case s.deep:
			to = append(to, "null"...)
		case s.numbers != nil:
			to = s.numbers(to, float64(value))
		default:
			to = append(to, quote...)
			to = strconv.AppendInt(to, value, 10)
			to = append(to, quote...)
		}
	}
	moment := func(name string, value time.Time) {
		to = append(to, name...)
		to = value.UTC().AppendFormat(to, `"2006-01-02T15:04:05.000000Z"`)
	}

	status := b.Status
	if s.unknownStatus {
		status = "BATCH_STATUS_HIBERNATING"
	}
	str(`{"id":`, b.ID+s.suffix)
	if s.required || s.types {
		if !s.noStatus {
			str(`,"status":`, status)
		}
		if s.types {
			to = append(to, `,"name":["a"],"creator_id":1,"org_id":true,"created_at":1788955487,"updated_at":{},`+
				`"input_dataset_id":{},"output_dataset_id":3,"input_tokens":["10"],"output_tokens":"many","model":7,`+
				`"num_records":{},"num_successful_records":true,"num_failed_records":"none","status_reason":{"text":"no"}`...)
		}
		return append(to, '}')
	}
	if s.binary {
		to = append(to, ",\"name\":\"caf\xe9 \xff\xfe\""...)
	} else {
		str(`,"name":`, b.Name)
	}
	if s.nulls {
		str(`,"creator_id":null,"org_id":null,"status":`, status)
		to = append(to, `,"created_at":null,"updated_at":null`...)
		str(`,"input_dataset_id":`, b.InputDatasetID)
		to = append(to, `,"output_dataset_id":null,"input_tokens":null,"output_tokens":null`...)
		str(`,"model":`, b.Model)
		return append(to, `,"num_records":null,"num_successful_records":null,"num_failed_records":null,"status_reason":null}`...)
	}
	to = append(to, `,"creator_id":"7d0c2f6e-94a1-4b0e-8f43-5c1f1f0d2b66","org_id":"c4a9be10-1f7d-4a0c-bb5e-2a3d9e8f7011"`...)
	if !s.noStatus {
		str(`,"status":`, status)
	}
	moment(`,"created_at":`, b.CreatedAt)
	moment(`,"updated_at":`, b.UpdatedAt)
	str(`,"input_dataset_id":`, b.InputDatasetID)
	str(`,"output_dataset_id":`, b.OutputDatasetID)
	if !s.withoutTokens {
		number(`,"input_tokens":`, b.InputTokens, `"`)
		number(`,"output_tokens":`, b.OutputTokens, `"`)
	}
	str(`,"model":`, b.Model)
	number(`,"num_records":`, b.Records, "")
	number(`,"num_successful_records":`, b.SuccessfulRecords, "")
	number(`,"num_failed_records":`, b.FailedRecords, "")
	str(`,"status_reason":`, b.StatusReason)
	return append(to, '}')
}
