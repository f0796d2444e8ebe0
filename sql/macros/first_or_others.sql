-- first_or_others.sql
-- Question:    Under which name is a member of a ranking shown, where only the first ones have their own?
-- Arguments:   name of the member; its place, from 1; how many members there are; how many have their own name.
-- Answer:      its name, or "others (n)", the same for all n that remain, so that they are summed up.
(name, place, members, named) as case when place <= named then name else 'others (' || members - named || ')' end
