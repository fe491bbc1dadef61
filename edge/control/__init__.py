"""Quality control: a reference set with known contents, run on a schedule; overdue or failed, it locks patient counts."""
