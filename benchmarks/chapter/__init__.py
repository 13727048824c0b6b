"""The chapter's algorithms (Raschka, Liu and Mirjalili 2022, chapter 15), written here from its description.

They are what the rows are measured against, so they keep the chapter's ways on purpose: reviews are tokenised again in
every epoch, sequences packed, windows' indices shuffled anew for every step, characters read one call at a time.
Where a detail was in doubt the faster way was taken. PyTorch alone; nothing of `unroll` is used.
"""
